"""When training ends before its last epoch, each a pure function of the epochs so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveInt

from sightx.plugin import Stopping

if TYPE_CHECKING:
    from sightx.plugin import History, Series


class Never(Stopping):
    """Train all epochs."""

    name = "never"

    def reason(self, history: History) -> str | None:
        """Return None."""
        return None


class Early(Stopping):
    """Stop when the monitored figure no longer improves.

    Only an epoch that beats the best by more than `min_delta` becomes the new best and starts the
    count anew, as with Keras' EarlyStopping; an epoch without a figure is no improvement.
    """

    name = "early"

    monitor: str | None = None
    """The figure to follow, such as `validation/loss`; left out, the experiment's."""
    patience: PositiveInt = 3
    """Epochs in a row without improvement after which training stops."""
    min_delta: NonNegativeFloat = 0.0
    """How much better than the best so far an epoch must be, in the figure's own unit."""

    def reason(self, history: History) -> str | None:
        """Return what has not improved, on what, and for how long."""
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
        """Return the position of the last improvement."""
        best: int | None = None
        for position, value in enumerate(series.values):
            if series.better(
                value, math.nan if best is None else series.values[best], self.min_delta
            ):
                best = position
        return best
