"""Rules for ending training early: pure functions of the history."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from sightx.plugin import Stopping, counted

if TYPE_CHECKING:
    from sightx.plugin import History, Series


class Never(Stopping):
    """Never stop early: train all epochs."""

    name = "never"
    other_names = ("none",)

    def reason(self, history: History) -> str | None:
        """Return None."""
        return None


class TimeLimit(Stopping):
    """Stop before the epochs of a run take longer than a limit, in all processes together.

    Training ends after an epoch if another one, as long as the longest so far, would not fit. The
    time of the first part of a resumed run counts; preparing images does not.
    """

    name = "time-limit"
    other_names = ("timer", "max_time", "max_hours")

    minutes: PositiveFloat
    """Largest duration of all epochs, with their validation."""

    def reason(self, history: History) -> str | None:
        """Return how long the epochs took, and how long another one may take."""
        spent, longest = sum(history.seconds), max(history.seconds, default=0.0)
        if spent + longest <= 60 * self.minutes:
            return None
        return (
            f"training has taken {spent / 60:.1f} minutes, and another epoch may take "
            f"{longest / 60:.1f}: the limit is {self.minutes:g}"
        )


class Early(Stopping):
    """Stop when the monitored metric has not improved for some epochs.

    As in Keras' EarlyStopping, an epoch becomes the new best, and the count starts again, only if
    its metric is better than the best by more than `min_delta`. NaN is not an improvement.
    """

    name = "early"
    other_names = ("EarlyStopping", "early_stopping", "patience")

    monitor: str | None = None
    """Metric to monitor, such as `validation/loss`; by default `training.monitor`."""
    patience: PositiveInt = 3
    """Number of consecutive epochs without improvement after which training stops."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest improvement that counts, in the unit of the metric."""

    def reason(self, history: History) -> str | None:
        """Return the metric, its best value and epoch, and the number of epochs since."""
        series = history.series(self.monitor)
        best = self._best(series)
        waited = len(series.values) - (0 if best is None else best + 1)
        if waited < self.patience:
            return None
        name = self.monitor or history.monitor
        span = counted(waited, "epoch")
        if best is None:
            return f"{name} has had no value for {span}"
        return (
            f"{name} has not improved on {series.values[best]:.4g} of epoch {best + 1} for {span}"
        )

    def _best(self, series: Series) -> int | None:
        """Return the position of the last epoch that improved; None without any."""
        best: int | None = None
        for position, value in enumerate(series.values):
            if series.better(
                value, math.nan if best is None else series.values[best], self.min_delta
            ):
                best = position
        return best
