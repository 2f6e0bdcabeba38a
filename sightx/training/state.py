"""Everything that a run needs to go on: tensors, and a record that JSON holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sightx.distributed.collectives import SingleProcess

if TYPE_CHECKING:
    from torch import Tensor


_KERNELS = ("fused", "foreach", "capturable")  # settings of torch's optimizers: how, not what


@dataclass(frozen=True)
class State:
    """Hold a trainer's state between two events.

    `record` has stage, step, totals, history, postprocess (what was fitted on validation) and the
    optimizer's plain values.
    """

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    record: Mapping[str, Any]

    @property
    def is_between_epochs(self) -> bool:
        """Return whether the state lies between two epochs."""
        return not self.record.get("totals", (0, 0, 0))[2]


def broadcast_state(collectives: SingleProcess, state: State | None) -> State:
    """Return the state of rank 0 on every rank; the other ranks pass None."""
    own = state or State({}, {}, {})
    record = collectives.broadcast_object(dict(own.record))
    weights, optimizer = map(collectives.broadcast_tensors, (own.weights, own.optimizer))
    return State(weights, optimizer, record)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's state as named tensors and plain values."""
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
    """Put a packed state back into an optimizer over the same groups.

    How its kernels compute is no part of the state, and neither is the order in memory: fused ones
    read a weight and its moments side by side.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *record["plain"].items()]:
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = _laid_out(value, weights[int(index)])
    groups = [
        {**saved, **{key: group[key] for key in _KERNELS if key in group}}
        for saved, group in zip(record["groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _laid_out(value: Any, weight: Tensor) -> Any:
    """Return a value of the weight's shape in the weight's order in memory; any other as it is."""
    if not isinstance(value, torch.Tensor) or value.shape != weight.shape:
        return value
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def to_json(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures as JSON can hold them: what is not finite becomes null."""
    return {key: value if math.isfinite(value) else None for key, value in figures.items()}


def from_json(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Return figures with null read as NaN."""
    return {key: math.nan if value is None else value for key, value in figures.items()}
