"""The metrics of the finished epochs: the only argument of every policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Direction = Literal["max", "min"]
"""Whether a higher or a lower value of a metric is better."""


@dataclass(frozen=True)
class Series:
    """One metric over the epochs.

    `values` has one number per epoch; NaN if it is missing or not finite.
    """

    values: tuple[float, ...]
    direction: Direction

    def better(self, value: float, than: float, margin: float = 0.0) -> bool:
        """Return whether a value is better than another by more than a margin.

        A tie is not better, and neither is a value that is not finite.
        """
        if not math.isfinite(value):
            return False
        if not math.isfinite(than):
            return True
        return value > than + margin if self.direction == "max" else value < than - margin

    @property
    def best(self) -> int | None:
        """Return the position of the best value, the earliest of equals; None if there is none."""
        best: int | None = None
        for position, value in enumerate(self.values):
            if self.better(value, math.nan if best is None else self.values[best]):
                best = position
        return best

    @property
    def tied(self) -> tuple[int, ...]:
        """Return the positions of all values that are equal to the best one."""
        best = self.best
        return tuple(
            p for p, v in enumerate(self.values) if best is not None and v == self.values[best]
        )


@dataclass(frozen=True)
class History:
    """The metrics of every finished epoch, and the one that the experiment monitors.

    `epochs` has one mapping per epoch, from names such as `validation/loss` to numbers;
    `directions` says for each name whether higher or lower is better. `seconds` are the durations
    of the epochs, as they were recorded: a resumed run has those of the run that it continues.
    """

    monitor: str
    directions: Mapping[str, Direction]
    epochs: tuple[Mapping[str, float], ...] = field(default=())
    seconds: tuple[float, ...] = field(default=())

    def series(self, name: str | None = None) -> Series:
        """Return one metric over the epochs; None means the monitored one."""
        name = name or self.monitor
        values = tuple(epoch.get(name, math.nan) for epoch in self.epochs)
        return Series(values, self.directions.get(name, "min" if "loss" in name else "max"))

    def add(self, epoch: Mapping[str, float], seconds: float = 0.0) -> History:
        """Return the history with one more epoch, which took some seconds."""
        epochs = (*self.epochs, MappingProxyType({**epoch}))  # no component can change it
        durations = (*self.seconds, seconds)
        return History(self.monitor, self.directions, epochs, durations)

    def first(self, count: int) -> History:
        """Return the history of the first epochs."""
        epochs, seconds = self.epochs[:count], self.seconds[:count]
        return History(self.monitor, self.directions, epochs, seconds)
