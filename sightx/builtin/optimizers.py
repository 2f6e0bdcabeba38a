"""Optimizers of torch, with torch's names and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import unwrap
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from sightx.plugin import Optimizer, call_declared

if TYPE_CHECKING:
    import torch

Decay = Annotated[float, Field(ge=0, lt=1)]
_FUSED_DEVICES = ("cpu", "cuda", "mps")
_WRAPPED = ("add_param_group", "state_dict", "load_state_dict")


class _TorchOptimizer(Optimizer):
    """An optimizer whose other fields are the arguments of torch's class."""

    torch_name: ClassVar[str]  # The class in torch.optim.
    has_fused: ClassVar[bool] = True  # Whether torch has kernels that update all weights at once.

    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a layer, as a fraction of that of the next layer; the last has `lr`."""
    decay_norms_and_biases: bool = True
    """Whether weight decay applies to normalisation and biases too, not only to matrices."""

    def build(
        self, groups: list[dict[str, Any]], *, layers: Mapping[str, int]
    ) -> torch.optim.Optimizer:
        """Return torch's optimizer, with fused kernels if all weights are on such devices."""
        import torch

        from sightx.plugin import split_param_groups

        rules = {"layer_decay", "decay_norms_and_biases"}
        groups = split_param_groups(groups, layers, **self.model_dump(include=rules))
        arguments = self.model_dump(exclude={"group", *rules})
        if self.has_fused:
            weights = [weight for group in groups for weight in group["params"]]
            arguments["fused"] = all(weight.device.type in _FUSED_DEVICES for weight in weights)
        return _without_compiler(getattr(torch.optim, self.torch_name))(groups, **arguments)


@cache
def _without_compiler(
    optimizer: type[torch.optim.Optimizer],
) -> Callable[..., torch.optim.Optimizer]:
    """Return torch's optimizer class without the wrappers that only torch.compile needs.

    The first call of a wrapped method imports torch._dynamo, which takes as long as importing torch
    itself.
    """
    import torch

    methods = {name: unwrap(getattr(optimizer, name)) for name in _WRAPPED}
    step = torch.no_grad()(unwrap(optimizer.step))
    body = {"__module__": optimizer.__module__, "__doc__": optimizer.__doc__, "step": step}
    return type(optimizer.__name__, (optimizer,), body | methods)


class Sgd(_TorchOptimizer):
    """Stochastic gradient descent, optionally with momentum."""

    name = "sgd"
    other_names = ("momentum", "nesterov")
    torch_name = "SGD"
    capturable = True

    lr: PositiveFloat = 1e-2
    """Learning rate; the scheduler multiplies it by a factor."""
    momentum: Decay = 0.0
    """Momentum factor, from 0 to below 1."""
    dampening: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Dampening of the momentum: 1 - dampening is the factor of the gradient, 0 to 1."""
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty: this multiple of each weight is added to its gradient."""
    nesterov: bool = False
    """Use Nesterov momentum."""

    @model_validator(mode="after")
    def _check_nesterov(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs momentum above 0 and dampening 0")
        return self


class Adam(_TorchOptimizer):
    """Adam: steps scaled by running averages of the gradient and of its square.

    D. Kingma and J. Ba, ICLR 2015. AMSGrad: S. Reddi, S. Kale and S. Kumar, ICLR 2018.
    """

    name = "adam"
    torch_name = "Adam"
    capturable = True

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay rates of the running averages of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Number added to the square root of the mean square, for numerical stability."""
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty: this multiple of each weight is added to its gradient."""
    amsgrad: bool = False
    """Use the largest mean square so far (AMSGrad)."""


class AdamW(Adam):
    """Adam with decoupled weight decay.

    I. Loshchilov and F. Hutter, ICLR 2019.
    """

    name = "adamw"
    torch_name = "AdamW"

    weight_decay: NonNegativeFloat = 0.01
    """Each step subtracts learning rate x weight_decay x weight from each weight."""


class RmsProp(_TorchOptimizer):
    """RMSprop: steps scaled by a running average of the squared gradient.

    T. Tieleman and G. Hinton, 2012.
    """

    name = "rmsprop"
    torch_name = "RMSprop"
    has_fused = False

    alpha: Decay = 0.99
    """Decay rate of the running average of the squared gradient."""
    eps: PositiveFloat = 1e-8
    """Number added to the square root of the mean square, for numerical stability."""
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty: this multiple of each weight is added to its gradient."""
    momentum: Decay = 0.0
    """Momentum factor, from 0 to below 1."""
    centered: bool = False
    """Scale steps by the variance of the gradient instead of its mean square."""


class Sam(Optimizer):
    """Sharpness-aware minimisation: another optimizer's step, with the gradient of a nearby point.

    Each step computes the gradient twice: at the weights w, and at w + rho g / |g|, where the loss
    is about the largest near w; `base` updates w with the second gradient. P. Foret et al., ICLR
    2021; adaptive: J. Kwon et al., ICML 2021. Running statistics are those of the first pass.
    """

    name = "sam"
    passes = 2

    base: Optimizer
    """Optimizer that makes the steps; its learning rate and groups are those of `sam`."""
    rho: PositiveFloat = 0.05
    """Distance of the nearby point; about 0.5 to 2 if adaptive."""
    adaptive: bool = False
    """Whether the distance along each weight is in proportion to the weight."""

    @model_validator(mode="after")
    def _check_base(self) -> Self:
        if self.base.passes > 1:
            raise ValueError(f"base must be an optimizer with one pass, {self.base.name} has more")
        return self

    def build(
        self, groups: list[dict[str, Any]], *, layers: Mapping[str, int]
    ) -> torch.optim.Optimizer:
        """Return an optimizer around that of `base`."""
        from sightx.builtin.sam import SharpnessAwareOptimizer

        base = call_declared(self.base.build, groups, layers=layers)
        return SharpnessAwareOptimizer(base, self.rho, self.adaptive)
