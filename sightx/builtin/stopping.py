"""Rules for ending training early: pure functions of the history."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveInt

from sightx.plugin import Stopping

if TYPE_CHECKING:
    from sightx.plugin import History, Series


class Never(Stopping):
    """Never stop early: train all epochs."""

    name = "never"

    def reason(self, history: History) -> str | None:
        """Return None."""
        return None


class Early(Stopping):
    """Stop when the monitored metric has not improved for some epochs.

    As in Keras' EarlyStopping, an epoch becomes the new best, and the count starts again, only if
    its metric is better than the best by more than `min_delta`. NaN is not an improvement.
    """

    name = "early"

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
        span = f"{waited} epoch{'s' if waited > 1 else ''}"
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
