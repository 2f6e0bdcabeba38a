from __future__ import annotations

import numpy as np
import pytest
import torch

from sightx.builtin.augment import Flip
from sightx.data.loader.loader import _GATHER_BYTES, BatchLoader
from sightx.records.pixels import InMemoryPixels, PixelRows

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 3, 5, 4), dtype=np.uint8)
MEAN, DEVIATION = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture
def batches():
    rows = PixelRows(InMemoryPixels(torch.from_numpy(PIXELS)), np.array([5, 4, 3, 2, 1, 0]))
    return BatchLoader(
        rows, np.arange(6), (MEAN, DEVIATION), torch.device("cpu"), (Flip(),), seed=3
    )


def augmented(batches, *purpose):
    ((_, pixels, targets),) = batches.iter_batches([np.arange(6)])
    images, same = batches.augment(pixels, targets, *purpose)
    assert torch.equal(same, targets)
    return images


def test_images_are_scaled_by_255_and_normalised(batches):
    images, targets = batches.load(np.array([4, 0]))

    unit = PIXELS[[1, 5]].astype(np.float64) / 255
    expected = (unit - np.reshape(MEAN, (3, 1, 1))) / np.reshape(DEVIATION, (3, 1, 1))
    assert images.dtype == torch.float32
    assert np.allclose(images.numpy(), expected, atol=1e-6)
    assert targets.tolist() == [4, 0]
    assert np.array_equal(batches.rows.pixels.tensor.numpy(), PIXELS)


def test_augmentation_is_a_function_of_seed_and_purpose(batches):
    first, again, other = (augmented(batches, *purpose) for purpose in [(1, 0), (1, 0), (1, 1)])

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_images_are_augmented_before_they_are_normalised(batches):
    plain, changed = batches.load(np.arange(6))[0], augmented(batches, 0)

    for before, after in zip(plain, changed, strict=True):
        turned = [before, before.flip(-1), before.flip(-2), before.flip(-1, -2)]
        assert any(torch.allclose(after, image, atol=1e-6) for image in turned)


def test_without_augments_both_are_equal(batches):
    still = BatchLoader(batches.rows, batches.labels, batches.statistics, batches.device)

    assert torch.allclose(augmented(still, 9), still.load(np.arange(6))[0], atol=1e-6)


@pytest.mark.parametrize("count", [1, 30])
def test_batches_do_not_depend_on_how_many_are_gathered_at_once(batches, monkeypatch, count):
    monkeypatch.setitem(_GATHER_BYTES, "cpu", count * 4 * PIXELS[0].size)
    parts = [np.array([3, 1, 4, 1]), np.array([5, 0, 2, 5]), np.array([3])]
    for plain in (True, False):
        for part, (positions, images, targets) in zip(
            parts, batches.iter_batches(parts, normalize=plain), strict=True
        ):
            assert np.array_equal(positions, part)
            assert targets.tolist() == part.tolist()
            expected = torch.from_numpy(PIXELS[batches.rows.index[part]])
            assert torch.equal(images, batches.normalize(expected) if plain else expected)
    assert list(batches.iter_batches([])) == []
