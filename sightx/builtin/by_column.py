"""A metric for each value of a column of the dataset, such as each camera or each site."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sightx.plugin import Direction, Metric

if TYPE_CHECKING:
    from sightx.plugin import Predictions


class ByColumn(Metric):
    """Another metric for samples with the same value of a column, and the worst of its numbers.

    The names are `name/column/worst`, over all values that occur, and `name/column=level` for each
    of `levels`. A number is NaN if no sample has the value.
    """

    name = "by-column"

    base: Metric
    """The metric to compute."""
    column: str
    """The extra column of the dataset."""
    levels: tuple[str, ...] = ()
    """Values of the column that get numbers of their own."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the names for the worst value and for each level."""
        suffixes = [f"{self.column}/worst", *(f"{self.column}={level}" for level in self.levels)]
        directions = self.base.values(classes)
        return {f"{name}/{end}": way for name, way in directions.items() for end in suffixes}

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the worst number of all values of the column, and those of the levels."""
        import numpy as np

        cells = predictions.columns[self.column].astype(str)
        numbers = {
            value: self.base.compute(predictions.take(np.flatnonzero(cells == value)))
            for value in np.unique(cells).tolist()
        }
        computed = {}
        for name, direction in self.base.values(predictions.classes).items():
            defined = [item[name] for item in numbers.values() if not math.isnan(item[name])]
            worst = min if direction == "max" else max
            computed[f"{name}/{self.column}/worst"] = worst(defined, default=math.nan)
            for level in self.levels:
                number = numbers[level][name] if level in numbers else math.nan
                computed[f"{name}/{self.column}={level}"] = number
        return computed
