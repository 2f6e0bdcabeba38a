"""Measures of the quality of photographs, computed from a copy of 256 x 256 pixels.

The measures were chosen by how well they rank photographs of the retina that experts of EyeQ
(H. Fu et al., 2019) have rejected. None has an absolute limit: what is dark or blurred for one
camera is usual for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sightx.records.history import Direction

Array = np.ndarray[Any, Any]

SIZE = 256
"""Height and width of the copy."""
_MARGIN = 16  # pixels that the largest window reaches beyond its centre
_EROSION = 6  # pixels by which the disc is made smaller, so that its edge does not count
_MIN_DISC = 500  # pixels of a disc that is made smaller
_CELLS = 7  # per axis, of the grid on which evenness is measured
_MIN_CELL = 300  # pixels of the disc that a cell needs
_CLIPPED = 250  # of 255

QUALITY_DIRECTIONS: Mapping[str, Direction] = {
    "sharpness": "max", "contrast": "max", "unevenness": "min", "brightness": "max", "disc": "max",
    "clipped": "min",
}  # fmt: skip
"""Measures by which a photograph can be worse than others, with the direction that is better."""


class QualityMeasures(NamedTuple):
    """The quality of an image; shares and colours are 0 to 1, measured within the bright disc.

    Attributes:
        sharpness: Standard deviation of detail of 3 to 9 pixels, divided by the mean of green.
        contrast: Standard deviation of structures of 9 to 33 pixels, in green.
        unevenness: Standard deviation of the brightness of cells of a grid, by its mean.
        brightness: 99th percentile of the brightest channel.
        disc: Share of the image that is brighter than its background.
        clipped: Share of the disc whose brightest channel is at its end.
        red: Mean of red.
        green: Mean of green.
        blue: Mean of blue.
    """

    sharpness: float
    contrast: float
    unevenness: float
    brightness: float
    disc: float
    clipped: float
    red: float
    green: float
    blue: float


def measure_quality(pixels: Array) -> QualityMeasures:
    """Return the quality of an image, uint8 (H, W, 3)."""
    pixels = resized(pixels, SIZE)
    channels = [np.ascontiguousarray(pixels[..., channel]) for channel in range(3)]
    light = np.maximum(np.maximum(channels[0], channels[1]), channels[2])
    low, high, top = np.percentile(light[::2, ::2], [1, 90, 99])
    disc = light > low + 0.1 * (high - low)
    if not disc.any():  # every pixel is equal
        disc = np.ones_like(disc)
    red, green, blue = (float(channel[disc].mean() / 255) for channel in channels)
    inner = _eroded(disc)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    if not inner.any():
        inner = np.ones_like(inner)
    image = channels[1].astype(np.float32) / 255
    fine, middle, coarse = (_box_mean(image, radius) for radius in (1, 4, 16))
    centre = image[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return QualityMeasures(
        sharpness=float((fine - middle)[inner].std() / max(centre[inner].mean(), 0.02)),
        contrast=float((middle - coarse)[inner].std()),
        unevenness=_unevenness(centre, inner),
        brightness=float(top / 255),
        disc=float(disc.mean()),
        clipped=float((light[disc] >= _CLIPPED).mean()),
        red=red,
        green=green,
        blue=blue,
    )


def resized(pixels: Array, size: int) -> Array:
    """Return a square copy, uint8 (size, size, 3), by the mean of the pixels where it is smaller.

    An image of that size is returned as it is.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    is_smaller = min(image.size) >= size
    method = Image.Resampling.BOX if is_smaller else Image.Resampling.BILINEAR
    return np.asarray(image.resize((size, size), method))


def _eroded(disc: Array) -> Array:
    """Return a disc without its edge; unchanged if too little would remain."""
    size = 2 * _EROSION + 1
    inner = np.zeros_like(disc)
    inner[_EROSION:-_EROSION, _EROSION:-_EROSION] = (
        _box_sum(disc.astype(np.float32), _EROSION) > size * size - 0.5
    )
    return inner if inner.sum() >= _MIN_DISC else disc


def _box_sum(image: Array, radius: int) -> Array:
    """Return the sums of windows of 2 radius + 1 pixels that lie within an image."""
    for _ in range(2):
        sums = np.zeros((image.shape[0], image.shape[1] + 1), np.float32)
        np.cumsum(image, axis=1, out=sums[:, 1:])
        image = (sums[:, 2 * radius + 1 :] - sums[:, : -2 * radius - 1]).T.copy()
    return image


def _box_mean(image: Array, radius: int) -> Array:
    """Return the means of windows around the pixels that are `_MARGIN` away from the edge."""
    cut = _MARGIN - radius
    inner = image[cut : image.shape[0] - cut, cut : image.shape[1] - cut]
    return _box_sum(inner, radius) / (2 * radius + 1) ** 2


def _unevenness(centre: Array, inner: Array) -> float:
    """Return how much the mean brightness differs between the cells of a grid."""
    side = len(centre) // _CELLS
    shape = (_CELLS, side, _CELLS, side)
    counts = inner.reshape(shape).sum(axis=(1, 3))
    sums = (centre * inner).reshape(shape).sum(axis=(1, 3))
    is_seen = counts > _MIN_CELL
    if not is_seen.any():
        return 0.0
    means = sums[is_seen] / counts[is_seen]
    return float(means.std() / max(means.mean(), 0.02))
