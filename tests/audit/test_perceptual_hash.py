from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn

from sightx.audit.near_pairs import hamming
from sightx.audit.perceptual_hash import (
    ORIENTATIONS,
    SIZE,
    oriented,
    oriented_hashes,
    perceptual_hash,
    unpack,
)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 30, (20, SIZE, SIZE)).astype(np.float32)


def hashes_of(images) -> np.ndarray:
    return np.stack([perceptual_hash(image) for image in images])


def test_bits_are_the_signs_of_the_transform_that_scipy_computes(images):
    expected = np.stack([dctn(image, norm="ortho")[:16, :16] for image in images])
    expected[:, 0, 0] = -1  # the mean does not count
    bits = unpack(hashes_of(images)).reshape(expected.shape)
    is_clear = np.abs(expected) > 0.1
    assert is_clear.mean() > 0.98
    assert np.array_equal(bits[is_clear], expected[is_clear] > 0)


def test_a_blank_image_has_no_bits():
    for value in (0, 0.9999, 77.7, 255):
        assert not perceptual_hash(np.full((SIZE, SIZE), value, np.float32)).any()


def test_brightness_and_contrast_do_not_count(images):
    assert np.array_equal(hashes_of(images), hashes_of(images * 1.5 + 20))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_follows_from_the_hash_alone(images, orientation):
    turned = np.stack([oriented(image, orientation) for image in images])
    assert np.array_equal(hashes_of(turned), oriented_hashes(hashes_of(images), orientation))


def test_the_orientations_are_all_eight_with_those_of_the_other_image(images):
    image = images[0]
    variants = [oriented(image, orientation) for orientation in ("", *ORIENTATIONS)]
    variants.append(np.rot90(image, 3))  # one image is this of the other if that is rot90 of it
    expected = [np.rot90(mirrored, k) for mirrored in (image, image.T) for k in range(4)]
    assert {v.tobytes() for v in variants} == {v.tobytes() for v in expected}


def test_unrelated_images_differ_in_about_half_of_the_bits(images):
    hashes = hashes_of(images)
    assert hamming(hashes[:-1], hashes[1:]).min() > 90
