"""Checks of judgements of image quality."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sightx.plugin import Quality
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.fixtures import images

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    Array = np.ndarray[Any, Any]

_SIZES = ((64, 64), (40, 60))


def measures_are_declared(quality: Quality) -> None:
    """Require a finite float for each name of values(), also of black, white and grey images."""
    declared = quality.values()
    require(declared, "values() returns no name")
    invalid = set(declared.values()) - {"max", "min"}
    require(not invalid, f"{invalid} is not a direction; use 'max' or 'min'")
    for image in _images():
        measures = quality.measure(image)
        names = sorted(measures)
        message = f"measure() returns {names}, values() declares {sorted(declared)}"
        require(names == sorted(declared), message)
        for name, value in measures.items():
            message = f"{name} of an image {image.shape} is {value!r}; return a finite float"
            require(isinstance(value, float) and math.isfinite(value), message)


def measure_is_deterministic(quality: Quality) -> None:
    """Require the same numbers each time, and that the image is only read."""
    for image in _images():
        before = image.copy()
        one, two = (dict(quality.measure(image)) for _ in range(2))
        require(one == two, "measure() differs from call to call; use the image alone")
        require((image == before).all(), "measure() modifies the image; work on a copy")


def _images() -> Iterator[Array]:
    """Yield noisy, black and white images, uint8 (H, W, C)."""
    for size in _SIZES:
        for channels in (3, 1):
            noise = images(1, size, channels)[0][0].permute(1, 2, 0).numpy()
            yield from (noise.copy(), noise * 0, noise * 0 + 255)


CHECKS: tuple[ContractCheck, ...] = (measures_are_declared, measure_is_deterministic)
