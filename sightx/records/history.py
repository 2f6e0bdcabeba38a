"""What the epochs so far have shown: the one argument of every policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["max", "min"]
"""Whether more or less of a metric is better."""


@dataclass(frozen=True)
class Series:
    """Follow one figure over the epochs.

    `values` holds one number an epoch, NaN where there was none or an infinite one.
    """

    values: tuple[float, ...]
    direction: Direction

    def better(self, value: float, than: float, margin: float = 0.0) -> bool:
        """Say whether a value beats another by more than a margin.

        Ties never win, nor does what is not finite: a ratio of nothing is no success.
        """
        if not math.isfinite(value):
            return False
        if not math.isfinite(than):
            return True
        return value > than + margin if self.direction == "max" else value < than - margin

    @property
    def best(self) -> int | None:
        """Return the position of the best value, the earliest of equals; None without any."""
        found: int | None = None
        for position, value in enumerate(self.values):
            if self.better(value, math.nan if found is None else self.values[found]):
                found = position
        return found


@dataclass(frozen=True)
class History:
    """Hold every finished epoch's figures, and which of them the experiment follows.

    `epochs` has one mapping an epoch, from names such as `validation/loss` to numbers;
    `directions` says which way each name is better.
    """

    monitor: str
    directions: Mapping[str, Direction]
    epochs: tuple[Mapping[str, float], ...] = field(default=())

    def series(self, name: str | None = None) -> Series:
        """Return one figure over the epochs; the monitored one if no name is given."""
        name = name or self.monitor
        values = tuple(epoch.get(name, math.nan) for epoch in self.epochs)
        return Series(values, self.directions.get(name, "min" if "loss" in name else "max"))

    def add(self, epoch: Mapping[str, float]) -> History:
        """Return the history with one more epoch."""
        return History(self.monitor, self.directions, (*self.epochs, dict(epoch)))
