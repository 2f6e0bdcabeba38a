"""Checks of normalisations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sightx.plugin import Model, Normalize, SpecError, Statistics, call_declared
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.fixtures import images

if TYPE_CHECKING:
    from sightx.plugin import PixelRows


class _ModelWithStatistics(Model):
    """A model that declares statistics."""

    name = "with-statistics"

    def normalization(self) -> Statistics:
        return (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


class _ModelWithoutStatistics(Model):
    """A model that declares no statistics."""

    name = "without-statistics"


def statistics_are_valid(normalize: Normalize) -> None:
    """Require finite means and positive deviations, for colour, grey and constant images."""
    refusals = []
    for channels in (3, 1):
        try:
            for rows in (_rows(channels), _rows(channels, constant=True)):
                for model in (_ModelWithStatistics(), _ModelWithoutStatistics()):
                    _require_valid(_statistics(normalize, model, rows), channels)
        except SpecError as error:
            refusals.append(str(error))
    require(
        len(refusals) < 2, f"it refuses images with three channels and with one: {refusals[:1]}"
    )


def statistics_are_deterministic(normalize: Normalize) -> None:
    """Require the same statistics each time, and unmodified pixels."""
    import numpy as np

    rows = _rows(3)
    positions = np.arange(len(rows))
    before = rows.gather(positions)
    one, two = (_statistics(normalize, _ModelWithoutStatistics(), rows) for _ in range(2))
    require(one == two, f"statistics() returns {one}, then {two}")
    is_same = rows.gather(positions).equal(before)
    require(is_same, "statistics() modifies the pixels; work on a copy")


def _require_valid(statistics: Any, channels: int) -> None:
    mean, std = statistics
    for title, values in (("means", mean), ("deviations", std)):
        require(
            len(values) == channels and all(type(value) is float for value in values),
            f"{title} are {values!r}; return one float for each of {channels} channels",
        )
        require(all(map(math.isfinite, values)), f"{title} are {values!r}; they must be finite")
    require(min(std) > 0, f"deviations are {std}; they must be above 0")


def _statistics(normalize: Normalize, model: Model, rows: PixelRows) -> Any:
    return call_declared(normalize.statistics, model=model, training_rows=rows)


def _rows(channels: int, *, constant: bool = False) -> PixelRows:
    from sightx.plugin import PixelRows

    pixels, _ = images(6, channels=channels)
    return PixelRows.of(pixels * 0 if constant else pixels)


CHECKS: tuple[ContractCheck, ...] = (statistics_are_valid, statistics_are_deterministic)
