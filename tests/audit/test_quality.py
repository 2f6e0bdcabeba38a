from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sightx.audit.quality import SIZE, QualityMeasures, _box_mean, measure_quality
from sightx.builtin.datasets.synthetic_fundus.render import render
from sightx.evaluation.roc import roc_auc


@pytest.fixture(scope="module")
def eye() -> np.ndarray:
    return render(0, 3, "left", 0, SIZE)


def measures(pixels, change) -> list[QualityMeasures]:
    return [measure_quality(np.asarray(image)) for image in change(Image.fromarray(pixels))]


def test_blur_lowers_sharpness(eye):
    values = measures(
        eye, lambda image: [image, *(image.filter(ImageFilter.GaussianBlur(r)) for r in (1, 2, 4))]
    )
    sharpness = [value.sharpness for value in values]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > 2 * sharpness[-1]


def test_a_darker_image_is_less_bright_and_as_sharp(eye):
    bright, dark = measures(eye, lambda image: [image, image.point(lambda v: v // 2)])
    assert dark.brightness == pytest.approx(bright.brightness / 2, abs=0.01)
    assert dark.sharpness == pytest.approx(bright.sharpness, rel=0.1)
    assert dark.disc == pytest.approx(bright.disc, abs=0.02)


def test_shares_are_those_of_what_was_drawn():
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[64:192, 64:192] = (200, 100, 50)
    pixels[64:192, 64:96] = 255
    quality = measure_quality(pixels)
    assert quality.disc == 0.25
    assert quality.clipped == 0.25
    assert quality.brightness == 1.0
    assert quality.red == pytest.approx((0.75 * 200 + 0.25 * 255) / 255)


def test_a_gradient_is_uneven_and_grey_is_not():
    ramp = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[:, None], (SIZE, SIZE, 3))
    grey = measure_quality(np.full((SIZE, SIZE, 3), 90, np.uint8))
    assert measure_quality(np.ascontiguousarray(ramp)).unevenness > 0.3
    assert (grey.unevenness, grey.disc) == (pytest.approx(0, abs=1e-4), 1.0)
    assert grey.sharpness == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("value", [0, 255])
def test_a_blank_image_has_finite_measures(value):
    assert np.isfinite(measure_quality(np.full((SIZE, SIZE, 3), value, np.uint8))).all()


def test_box_means_are_those_of_a_plain_loop():
    image = np.random.default_rng(0).random((SIZE, SIZE)).astype(np.float32)
    means = _box_mean(image, 4)
    for row, column in ((0, 0), (100, 37), (223, 223)):
        window = image[row + 12 : row + 21, column + 12 : column + 21]
        assert means[row, column] == pytest.approx(window.mean(), abs=1e-4)


def test_photographs_that_an_expert_would_reject_rank_as_less_sharp(shared):
    files = sorted((shared / "eyepacs256" / "images").glob("*.jpeg"))[:60:3]
    sharp = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    blurred = [np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(3))) for p in sharp]
    scores = [measure_quality(pixels).sharpness for pixels in (*sharp, *blurred)]
    assert roc_auc(np.arange(40) < 20, np.array(scores)) > 0.95
