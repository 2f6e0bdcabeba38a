"""Learning rate schedules: pure functions of the step and of the history.

All schedules have the field `warmup`; their factors are multiplied by a linear warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from sightx.plugin import Scheduler, call_declared

if TYPE_CHECKING:
    from sightx.plugin import History

Fraction = Annotated[float, Field(ge=0, le=1)]


class Constant(Scheduler):
    """Keep the learning rate constant."""

    name = "constant"
    other_names = ("none", "fixed", "ConstantLR")

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return 1."""
        return 1.0


class Step(Scheduler):
    """Multiply the learning rate by gamma every few epochs."""

    name = "step"
    other_names = ("MultiStepLR", "ExponentialLR", "exponential", "ExponentialDecay")

    step_size: PositiveInt = 7
    """Number of epochs between two changes."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor that the learning rate is multiplied by."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return gamma^(number of changes so far)."""
        return float(self.gamma ** (step // steps_per_epoch // self.step_size))


class Plateau(Scheduler):
    """Multiply the learning rate by gamma when the monitored metric stops improving.

    An epoch is bad unless its metric is better than the best so far by more than the threshold; NaN
    is bad. The rules are those of torch's ReduceLROnPlateau, but a relative threshold is a fraction
    of the absolute value of the best metric, so that negative values must improve as well.
    """

    name = "plateau"
    other_names = ("ReduceLROnPlateau",)

    monitor: str | None = None
    """Metric to monitor, such as `validation/loss`; by default `training.monitor`."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor that the learning rate is multiplied by."""
    patience: NonNegativeInt = 3
    """Number of consecutive bad epochs without effect; the next one lowers the learning rate.
    Torch's default of 10 suits runs of hundreds of epochs."""
    threshold: NonNegativeFloat = 1e-4
    """Smallest improvement on the best metric so far that counts."""
    threshold_mode: Literal["relative", "absolute"] = "relative"
    """Whether the threshold is a fraction of the best metric, or a difference."""
    cooldown: NonNegativeInt = 0
    """Number of epochs after a change that do not count as bad."""
    min_factor: Fraction = 0.0
    """Lower limit of the factor, 0 to 1."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the factor after the epochs so far."""
        series = history.series(self.monitor)
        factor, best, bad, cooldown = 1.0, math.nan, 0, 0
        for value in series.values:
            if series.better(value, best, self._margin(best)):
                best, bad = value, 0
            else:
                bad += 1
            if cooldown:
                cooldown, bad = cooldown - 1, 0
            if bad > self.patience:
                factor = max(factor * self.gamma, self.min_factor)
                cooldown, bad = self.cooldown, 0
        return factor

    def _margin(self, best: float) -> float:
        relative = self.threshold_mode == "relative" and math.isfinite(best)
        return self.threshold * abs(best) if relative else self.threshold


class Cosine(Scheduler):
    """Lower the learning rate along half a cosine over all steps.

    SGDR without restarts (I. Loshchilov and F. Hutter, ICLR 2017).
    """

    name = "cosine"
    other_names = ("CosineAnnealingLR", "CosineDecay")

    min_factor: Fraction = 0.0
    """Factor at the end of the run, 0 to 1."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the value of the cosine; 1 at the first step."""
        return _anneal("cos", 1.0, self.min_factor, min(step / steps, 1.0))


class OneCycle(Scheduler):
    """Raise the learning rate to its full value, then lower it to almost 0.

    The 1cycle policy (L. Smith and N. Topin, 2018) in two phases, without cycling the momentum. It
    needs no warm-up.
    """

    name = "one-cycle"
    other_names = ("OneCycleLR", "onecycle", "1cycle")
    includes_warmup = True

    peak_at: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Position of the peak, as a fraction of all steps."""
    start_factor: Fraction = 0.04
    """Factor at the first step, 0 to 1."""
    end_factor: Fraction = 4e-6
    """Factor at the last step, 0 to 1."""
    anneal: Literal["cos", "linear"] = "cos"
    """Shape of both phases."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the value of the cycle; 1 at the peak."""
        peak, last = self.peak_at * steps - 1, steps - 1
        if step <= peak:
            return _anneal(self.anneal, self.start_factor, 1.0, step / peak if peak else 1.0)
        progress = (min(step, last) - peak) / (last - peak)
        return _anneal(self.anneal, 1.0, self.end_factor, progress)


class GradualUnfreezing(Scheduler):
    """Train one parameter group after the other, in the order in which the optimizer lists them.

    The first `[[optimizer.group]]`, usually the head, is trained from the first step on, each next
    one `epochs` later, and the weights that no group matches at last; before that a group is
    frozen. Weights of the loss are trained from the beginning. Otherwise the learning rates are
    those of `base`. J. Howard and S. Ruder, ULMFiT, ACL 2018.
    """

    name = "gradual-unfreezing"
    needs_groups = True

    epochs: PositiveFloat = 1.0
    """Number of epochs between the starts of two groups."""
    base: Scheduler = Constant()
    """Schedule of the learning rates of the groups that are trained."""

    def factor(
        self,
        step: int,
        *,
        steps: int,
        steps_per_epoch: int,
        history: History,
        group: str = "*",
        groups: Sequence[str] = ("*",),
    ) -> float:
        """Return 0 for a group that is still frozen, otherwise the factor of `base`."""
        order = [name for name in groups if name != "loss"]
        position = order.index(group) if group in order else 0
        if step < round(position * self.epochs * steps_per_epoch):
            return 0.0
        run = {"steps": steps, "steps_per_epoch": steps_per_epoch, "history": history}
        factor: float = call_declared(self.base.factor, step, **run, group=group, groups=groups)
        return factor


def _anneal(shape: Literal["cos", "linear"], start: float, end: float, progress: float) -> float:
    """Interpolate from start to end while progress goes from 0 to 1."""
    if shape == "linear":
        return start + (end - start) * progress
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
