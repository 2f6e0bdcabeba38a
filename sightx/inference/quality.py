"""Whether an image is good enough for a grade: limits from the training split, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.data.preprocess import decode_pool, map_in_order
from sightx.inference.prediction import ImageQuality
from sightx.records.history import Direction
from sightx.records.pixels import PixelRows, Positions, evenly_spaced
from sightx.registry.components import Settings
from sightx.registry.kinds import Quality
from sightx.registry.metric_results import directions, numbers
from sightx.registry.results import wrong_result

if TYPE_CHECKING:
    from torch import Tensor

    Array = np.ndarray[Any, Any]

_MAX_IMAGES = 5000  # of the training split; more would hardly change a limit
_CHUNK = 32


class QualityLimits(Settings):
    """The values of a measure beyond which an image is poor, and beyond which it has no grade."""

    poor: float
    ungradable: float


def fit_limits(
    quality: Quality, rows: PixelRows, training: Positions, threads: int = 0
) -> dict[str, QualityLimits]:
    """Return the limits of each measure, from up to 5000 images of the training split.

    `rows` has the preprocessed images of all samples, and `training` the positions of those for
    training. `threads` measure them; 0 means one per core.
    """
    chosen = evenly_spaced(training, _MAX_IMAGES)
    names = directions(quality.values)
    starts = range(0, len(chosen), _CHUNK)
    chunks = (rows.gather(chosen[start : start + _CHUNK]) for start in starts)

    def measure(images: Tensor) -> list[list[float]]:
        return [[*_measures(quality, image).values()] for image in images]

    with decode_pool(threads) as pool:
        measured = [row for part in map_in_order(pool, measure, chunks, 4) for row in part]
    columns = np.array(measured).T
    return {
        name: QualityLimits(
            poor=_quantile(column, quality.poor, names[name]),
            ungradable=_quantile(column, quality.ungradable, names[name]),
        )
        for name, column in zip(names, columns, strict=True)
    }


def judge(
    quality: Quality, limits: Mapping[str, QualityLimits], images: Tensor
) -> list[ImageQuality]:
    """Return the verdict on each preprocessed image, uint8 (B, C, H, W)."""
    return [_verdict(quality, limits, _measures(quality, image)) for image in images]


def _measures(quality: Quality, image: Tensor) -> dict[str, float]:
    """Return the measures of an image, uint8 (C, H, W), in the order of their names."""
    names = directions(quality.values)
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    values = numbers(names, quality.measure, pixels)
    if not all(map(math.isfinite, values.values())):
        raise wrong_result(quality.measure, f"returned {values}", "return finite floats")
    return {name: values[name] for name in names}


def _quantile(values: Array, share: float, better: Direction) -> float:
    """Return the value beyond which at most a share of the values lies, on the worse end."""
    if better == "max":
        return float(np.quantile(values, share, method="lower"))
    return float(np.quantile(values, 1 - share, method="higher"))


def _verdict(
    quality: Quality, limits: Mapping[str, QualityLimits], measures: Mapping[str, float]
) -> ImageQuality:
    reasons = list[tuple[bool, float, str]]()  # sorted: the worst first
    for name, better in directions(quality.values).items():
        sign, end = (1, "low") if better == "max" else (-1, "high")
        value, limit = sign * measures[name], limits[name]
        excess = (sign * limit.poor - value) / (abs(limit.poor) or 1.0)
        is_ungradable = value < sign * limit.ungradable
        if excess > 0 or is_ungradable:
            reasons.append((not is_ungradable, -excess, f"{end}-{name}"))
    reasons.sort()
    return ImageQuality(
        verdict="good" if not reasons else "poor" if reasons[0][0] else "ungradable",
        reasons=tuple(reason for _, _, reason in reasons),
        measures=measures,
    )
