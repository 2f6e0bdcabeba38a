"""The state of a trainer: everything that a run needs to continue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from sightx.distributed.collectives import Collectives

if TYPE_CHECKING:
    from torch import Tensor

_TENSOR_FIELDS = ("weights", "optimizer", "loss", "training_weights")
# Settings of torch's optimizers that choose kernels, and do not change what is computed.
_KERNEL_SETTINGS = ("fused", "foreach", "capturable")


@dataclass(frozen=True)
class State:
    """The state of a trainer between two events.

    `weights` is the state dict of the network to predict with, and `loss` that of the loss, which
    is mostly empty. If the network to predict with is an average, `training_weights` is the state
    dict of the network that is trained, otherwise it is empty.
    `record` is JSON: step, totals (the sums of the running epoch), history, seconds (of each
    epoch, and of the running one so far), postprocess (the fitted states), the optimizer's plain
    values, and the binary decision if the spec declares one.
    """

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    record: Mapping[str, Any]
    loss: Mapping[str, Tensor] = field(default_factory=dict)
    training_weights: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Return all named tensors, by the name of the field that holds them."""
        return {name: getattr(self, name) for name in _TENSOR_FIELDS}

    def map_tensors(
        self, function: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    ) -> State:
        """Return a state whose named tensors are what a function returns for them."""
        return replace(self, **{key: function(value) for key, value in self.tensors.items()})

    @property
    def is_between_epochs(self) -> bool:
        """Return whether no epoch is running."""
        return not self.record.get("totals", (0, 0, 0))[2]


def broadcast_state(collectives: Collectives, state: State | None) -> State:
    """Return the state of rank 0 on every rank; the other ranks pass None."""
    own = state or State({}, {}, {})
    record = collectives.broadcast_object(dict(own.record))
    return replace(own, record=record).map_tensors(collectives.broadcast_tensors)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's state as named tensors, and as JSON for the rest."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{key}"] = value.detach()
            else:
                plain[f"{index}.{key}"] = value
    return tensors, {"plain": plain, "groups": state["param_groups"]}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], record: Mapping[str, Any]
) -> None:
    """Load a packed state into an optimizer over the same parameter groups.

    The optimizer keeps its own choice of kernels. Moments get the memory order of their parameter,
    as fused kernels need it.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *record["plain"].items()]:
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = _to_memory_order(value, weights[int(index)])
    groups = [
        {**saved, **{key: group[key] for key in _KERNEL_SETTINGS if key in group}}
        for saved, group in zip(record["groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _to_memory_order(value: Any, weight: Tensor) -> Any:
    """Return a tensor of the parameter's shape in its memory order; other values as is."""
    if not isinstance(value, torch.Tensor) or value.shape != weight.shape:
        return value
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def to_json(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics as JSON can hold them: a number that is not finite becomes null."""
    return {key: value if math.isfinite(value) else None for key, value in metrics.items()}


def from_json(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return metrics with null read as NaN."""
    return {key: math.nan if value is None else value for key, value in metrics.items()}
