"""Averages of the weights over the steps of training, which are evaluated and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat

from sightx.plugin import Average

if TYPE_CHECKING:
    from sightx.plugin import History


class Ema(Average):
    """Exponential moving average of the weights, updated after every step.

    With `warmup` the decay rises from 0 as 1 - (1 + step / warmup_gamma)^-warmup_power, so that a
    short run does not keep its first weights; these are the rules of timm's ModelEmaV3.
    """

    name = "ema"
    other_names = ("ModelEma", "exponential_moving_average")

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Share of the average that stays in a step, from 0 to below 1."""
    warmup: bool = True
    """Whether the decay rises slowly to its full value: it is 0.99 after 1000 steps by default."""
    warmup_gamma: PositiveFloat = 1.0
    """Number of steps that stretches the warm-up."""
    warmup_power: PositiveFloat = 2 / 3
    """Exponent of the warm-up: 2/3 for runs of a million steps, 3/4 for short ones."""

    def share(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return 1 - decay; the average begins with the weights after the first step."""
        if step == 0:
            return 1.0
        rising = (1 + step / self.warmup_gamma) ** -self.warmup_power if self.warmup else 0.0
        return max(1 - self.decay, rising)


class Swa(Average):
    """Equal average of the weights at the ends of the last epochs (stochastic weight averaging).

    Until the end of the first of these epochs the average is the weights themselves. P. Izmailov et
    al., UAI 2018. Running statistics of batch normalisation are averaged like the weights, as by
    torch's AveragedModel with `use_buffers=True`.
    """

    name = "swa"
    other_names = ("AveragedModel", "stochastic_weight_averaging")

    start_epoch: NonNegativeInt
    """Number of epochs before the first one that is averaged; about three quarters of all."""

    def share(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return 1 / n after the last step of the n-th epoch that is averaged."""
        count = (step + 1) // steps_per_epoch - self.start_epoch
        if count < 1:
            return 1.0
        return 1 / count if (step + 1) % steps_per_epoch == 0 else 0.0
