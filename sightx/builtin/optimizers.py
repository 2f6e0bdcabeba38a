"""Rules by which weights move: torch's own, with torch's names and defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import unwrap
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from sightx.plugin import Optimizer

if TYPE_CHECKING:
    import torch

Decay = Annotated[float, Field(ge=0, lt=1)]
_FUSED = ("cpu", "cuda", "mps")
_WRAPPED = ("add_param_group", "state_dict", "load_state_dict")


class _TorchOptimizer(Optimizer):
    """Its fields are the arguments of the optimizer in torch, but for `group`."""

    def _arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude={"group"})


@cache
def _lean(optimizer: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Return torch's optimizer without what torch.compile alone needs of it.

    Torch wraps these methods so that compiled code steps over them, and imports torch._dynamo when
    one is first called: as long as importing torch itself. What is wrapped is left as it is.
    """
    import torch

    kept = {name: unwrap(getattr(optimizer, name)) for name in _WRAPPED}
    step = torch.no_grad()(unwrap(optimizer.step))
    body = {"__module__": optimizer.__module__, "__doc__": optimizer.__doc__, "step": step}
    return type(optimizer.__name__, (optimizer,), body | kept)


def _fused(groups: list[dict[str, Any]]) -> bool:
    """Say whether torch has kernels there that move all weights at once."""
    return all(w.device.type in _FUSED for group in groups for w in group["params"])


class Sgd(_TorchOptimizer):
    """Stochastic gradient descent, with momentum if wanted."""

    name = "sgd"
    capturable = True

    lr: PositiveFloat = 1e-2
    """The learning rate that the scheduler scales."""
    momentum: Decay = 0.0
    """The share of the last step's direction that goes on."""
    dampening: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the gradient that momentum leaves out."""
    weight_decay: NonNegativeFloat = 0.0
    """How much of each weight is added to its gradient."""
    nesterov: bool = False
    """Whether the gradient is taken as if ahead, after the momentum's step."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs momentum above 0 and dampening 0")
        return self

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return torch's SGD."""
        import torch

        return _lean(torch.optim.SGD)(groups, **self._arguments(), fused=_fused(groups))


class Adam(_TorchOptimizer):
    """Adam: steps scaled by running moments of the gradient.

    Kingma, Ba, ICLR 2015; AMSGrad is of Reddi, Kale, Kumar, ICLR 2018.
    """

    name = "adam"
    capturable = True

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """What the running means of the gradient and of its square keep at each step."""
    eps: PositiveFloat = 1e-8
    """What is added to the root of the mean square."""
    weight_decay: NonNegativeFloat = 0.0
    """How much of each weight is added to its gradient."""
    amsgrad: bool = False
    """Whether the largest mean square so far is used."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return torch's Adam."""
        import torch

        return _lean(torch.optim.Adam)(groups, **self._arguments(), fused=_fused(groups))


class AdamW(Adam):
    """Adam with weight decay apart from the gradient.

    Loshchilov, Hutter, ICLR 2019.
    """

    name = "adamw"

    weight_decay: NonNegativeFloat = 0.01
    """What share of each weight, times the learning rate, a step takes away."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return torch's AdamW."""
        import torch

        return _lean(torch.optim.AdamW)(groups, **self._arguments(), fused=_fused(groups))


class RmsProp(_TorchOptimizer):
    """RMSprop: steps scaled by the running mean square of the gradient.

    Tieleman, Hinton, 2012.
    """

    name = "rmsprop"

    alpha: Decay = 0.99
    """What the running mean of the gradient's square keeps at each step."""
    eps: PositiveFloat = 1e-8
    """What is added to the root of the mean square."""
    weight_decay: NonNegativeFloat = 0.0
    """How much of each weight is added to its gradient."""
    momentum: Decay = 0.0
    """The share of the last step's direction that goes on."""
    centered: bool = False
    """Whether the variance of the gradient scales the step, not its mean square."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return torch's RMSprop."""
        import torch

        return _lean(torch.optim.RMSprop)(groups, **self._arguments())
