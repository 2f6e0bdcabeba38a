"""Checks of optimizers."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from sightx.plugin import Optimizer, call_declared
from sightx.testing.assertions import ContractCheck, on_meta, require

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SHAPES = {"head.bias": (3,), "body.weight": (2, 3), "body.bias": (2,)}
_TARGET = 2.0  # Weights start at 1. Weight decay alone would not move them towards 2.


def step_decreases_loss(optimizer: Optimizer) -> None:
    """Require that a step lowers a quadratic loss."""
    weights, built = _build(optimizer)
    before = _loss(weights).item()
    _step(optimizer, weights, built)
    after = _loss(weights).item()
    require(after < before, f"a step on (w - 2)^2 leads from {before:.6g} to {after:.6g}")


def passes_are_counted(optimizer: Optimizer) -> None:
    """Require that a step with two passes calls its closure once, at other weights."""
    require(optimizer.passes in (1, 2), f"passes is {optimizer.passes!r}; write 1 or 2")
    if optimizer.passes == 1:
        return
    weights, built = _build(optimizer)
    before = [weight.detach().clone() for weight in weights]
    seen: list[bool] = []

    def closure() -> Tensor:
        seen.append(all(map(_equal, weights, before)))
        return _backward(weights, built)

    _backward(weights, built)
    built.step(closure)  # type: ignore[arg-type]
    require(len(seen) == 1, f"step(closure) calls closure() {len(seen)} times; call it once")
    require(not seen[0], "the weights are as before at closure(); with passes = 1 it is not needed")


def param_groups_are_kept(optimizer: Optimizer) -> None:
    """Require the given group and learning rate of each parameter; groups may be split."""
    weights, built = _build(optimizer)
    expected = {
        id(weight): group for group in _groups(optimizer, weights) for weight in group["params"]
    }
    for group in built.param_groups:
        names = group.get("param_names", [])
        require(len(names) == len(group["params"]), "a group has no `param_names`; keep its keys")
        for name, weight in zip(names, group["params"], strict=True):
            given = expected.pop(id(weight))
            for key in ("name", "lr"):
                message = f"{key} of {name} was {given[key]} and is {group.get(key)}"
                require(
                    group.get(key) == given[key], f"{message}; keep it, in parts of a group too"
                )
            require(name in given["param_names"], f"{name} is in the group of another parameter")
    require(not expected, "parameters are missing; pass the groups on")
    for group in built.param_groups:
        group["lr"] = 0.0
    before = [weight.detach().clone() for weight in weights]
    _step(optimizer, weights, built)
    is_same = all(old.equal(new.detach()) for old, new in zip(before, weights, strict=True))
    require(is_same, "weights change at lr 0; the scheduler sets group['lr'] before each step")


def state_can_be_restored(optimizer: Optimizer) -> None:
    """Require a state of tensors and plain values, with which the next step is the same."""
    weights, built = _build(optimizer)
    for _ in range(3):
        _step(optimizer, weights, built)
    state = copy.deepcopy(built.state_dict())
    _require_plain(state)
    restored_weights, restored = _build(optimizer)
    for old, new in zip(weights, restored_weights, strict=True):
        new.data.copy_(old.data)
    restored.load_state_dict(state)
    _step(optimizer, weights, built)
    _step(optimizer, restored_weights, restored)
    is_same = all(old.equal(new) for old, new in zip(weights, restored_weights, strict=True))
    require(is_same, "after load_state_dict the next step differs; keep everything in `state`")


def capturable_reads_no_values(optimizer: Optimizer) -> None:
    """Require of a capturable optimizer that a step reads no value from the device."""
    import torch

    if not optimizer.capturable:
        return
    weights, built = _build(optimizer, "meta")
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    with on_meta("a step with capturable = True"):
        for _ in range(2):
            built.step()


def _require_plain(state: dict[str, Any]) -> None:
    import torch

    for values in (*state["state"].values(), *state["param_groups"]):
        for key, value in values.items():
            try:
                isinstance(value, torch.Tensor) or json.dumps(value)
            except TypeError:
                kind = type(value).__name__
                require(False, f"its state {key!r} is a {kind}; use tensors and plain values")


def _build(optimizer: Optimizer, device: str = "cpu") -> tuple[list[Tensor], torch.optim.Optimizer]:
    """Return the weights of two groups with different learning rates, and the optimizer."""
    import torch

    ones = [torch.ones(shape, device=device) for shape in _SHAPES.values()]
    weights: list[Tensor] = list(map(torch.nn.Parameter, ones))
    # All of them are in the last layer, which has the learning rates of the groups.
    layers = dict.fromkeys(_SHAPES, 0)
    built = call_declared(optimizer.build, _groups(optimizer, weights), layers=layers)
    kind = type(built).__name__
    is_optimizer = isinstance(built, torch.optim.Optimizer)
    require(is_optimizer, f"build() returns a {kind}, not a torch.optim.Optimizer")
    return weights, built


def _groups(optimizer: Optimizer, weights: list[Tensor]) -> list[dict[str, Any]]:
    names = list(_SHAPES)
    return [
        {"params": weights[:1], "param_names": names[:1], "lr": optimizer.lr / 10, "name": "head"},
        {"params": weights[1:], "param_names": names[1:], "lr": optimizer.lr, "name": "*"},
    ]


def _loss(weights: list[Tensor]) -> Tensor:
    import torch

    return (torch.cat([weight.flatten() for weight in weights]) - _TARGET).square().sum()


def _step(optimizer: Optimizer, weights: list[Tensor], built: torch.optim.Optimizer) -> None:
    """Make a step, with a second pass if the optimizer needs one."""
    _backward(weights, built)
    if optimizer.passes > 1:
        built.step(lambda: _backward(weights, built))  # type: ignore[arg-type, return-value]
    else:
        built.step()


def _backward(weights: list[Tensor], built: torch.optim.Optimizer) -> Tensor:
    built.zero_grad()
    loss = _loss(weights)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.detach().equal(other.detach())


CHECKS: tuple[ContractCheck, ...] = (
    step_decreases_loss, passes_are_counted, param_groups_are_kept, state_can_be_restored,
    capturable_reads_no_values,
)  # fmt: skip
