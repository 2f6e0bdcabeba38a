"""Learning rates over time, each a pure function of the step and of the epochs before it.

Every scheduler has `warmup`, in epochs: the rate then rises linearly under whatever it does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from sightx.plugin import Scheduler

if TYPE_CHECKING:
    from sightx.plugin import History

Share = Annotated[float, Field(ge=0, le=1)]


class Constant(Scheduler):
    """Leave the learning rate as it is."""

    name = "constant"

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return 1."""
        return 1.0


class Step(Scheduler):
    """Multiply the rate by gamma every few epochs."""

    name = "step"

    step_size: PositiveInt = 7
    """Epochs between two changes of the rate."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """What the rate is multiplied by."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return gamma to the power of the changes so far."""
        return float(self.gamma ** (step // steps_per_epoch // self.step_size))


class Plateau(Scheduler):
    """Multiply the rate by gamma when the monitored figure stops improving.

    An epoch is bad unless it beats the best so far by more than the threshold; one without a
    figure is bad. The rules are those of torch's ReduceLROnPlateau, but a relative threshold is a
    share of the best figure's size, so that a kappa below 0 has to rise as well.
    """

    name = "plateau"

    monitor: str | None = None
    """The figure to follow, such as `validation/loss`; left out, the experiment's."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What the rate is multiplied by."""
    patience: NonNegativeInt = 3
    """Bad epochs in a row that change nothing; the next one lowers the rate. Torch's own 10 suits
    runs of hundreds of epochs."""
    threshold: NonNegativeFloat = 1e-4
    """How much better than the best so far an epoch must be."""
    threshold_mode: Literal["relative", "absolute"] = "relative"
    """Whether the threshold is a share of the best figure or a difference."""
    cooldown: NonNegativeInt = 0
    """Epochs after a change that do not count as bad."""
    min_factor: Share = 0.0
    """The share of the full rate below which it never falls."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the factor that the epochs so far have led to."""
        series = history.series(self.monitor)
        factor, best, bad, resting = 1.0, math.nan, 0, 0
        for value in series.values:
            if series.better(value, best, self._margin(best)):
                best, bad = value, 0
            else:
                bad += 1
            if resting:
                resting, bad = resting - 1, 0
            if bad > self.patience:
                factor = max(factor * self.gamma, self.min_factor)
                resting, bad = self.cooldown, 0
        return factor

    def _margin(self, best: float) -> float:
        relative = self.threshold_mode == "relative" and math.isfinite(best)
        return self.threshold * abs(best) if relative else self.threshold


class Cosine(Scheduler):
    """Let the rate fall along half a cosine over all steps.

    As in SGDR (Loshchilov and Hutter, 2017), without restarts.
    """

    name = "cosine"

    min_factor: Share = 0.0
    """The share of the full rate that the last steps come down to."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the cosine's height, 1 at the first step."""
        return _anneal("cos", 1.0, self.min_factor, min(step / steps, 1.0))


class OneCycle(Scheduler):
    """Let the rate rise to its full size and then fall to almost nothing.

    The cycle of Smith and Topin (2018) in two phases, without a cycle of the momentum. It rises by
    itself and needs no warm-up.
    """

    name = "one-cycle"

    peak_at: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The share of all steps after which the rate is at its full size."""
    start_factor: Share = 0.04
    """The share of the full rate at the first step."""
    end_factor: Share = 4e-6
    """The share of the full rate at the last step."""
    anneal: Literal["cos", "linear"] = "cos"
    """The shape of both phases."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the cycle's height, 1 at the peak."""
        peak, last = self.peak_at * steps - 1, steps - 1
        if step <= peak:
            return _anneal(self.anneal, self.start_factor, 1.0, step / peak if peak else 1.0)
        progress = (min(step, last) - peak) / (last - peak)
        return _anneal(self.anneal, 1.0, self.end_factor, progress)


def _anneal(shape: Literal["cos", "linear"], start: float, end: float, progress: float) -> float:
    """Return what lies between start and end when progress goes from 0 to 1."""
    if shape == "linear":
        return start + (end - start) * progress
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
