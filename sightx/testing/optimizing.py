"""What an optimizer promises: it goes down, at the rate it is given, and can be taken up again."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from sightx.plugin import Optimizer
from sightx.testing.demands import Check, demand

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TARGET = 2.0  # weights begin at 1: away from 0, so that a decay alone does not go there


def one_step_goes_down(optimizer: Optimizer) -> None:
    """Demand that a step lowers a bowl."""
    weights, rule = _ready(optimizer)
    before = _bowl(weights).item()
    _step(weights, rule)
    after = _bowl(weights).item()
    demand(after < before, f"a step on (w - 2)^2 leads from {before:.6g} to {after:.6g}")


def rates_are_kept(optimizer: Optimizer) -> None:
    """Demand the groups as they were given: names, weights, learning rates."""
    weights, rule = _ready(optimizer)
    wanted = [("head", optimizer.lr / 10, 1), ("*", optimizer.lr, 1)]
    found = [(g.get("name"), g["lr"], len(g["params"])) for g in rule.param_groups]
    demand(found == wanted, f"groups of {wanted} became {found}; pass them on as they are")
    for group in rule.param_groups:
        group["lr"] = 0.0
    before = [weight.detach().clone() for weight in weights]
    _step(weights, rule)
    still = all(one.equal(two.detach()) for one, two in zip(before, weights, strict=True))
    demand(still, "at rate 0 weights move; the scheduler sets group['lr'] before each step")


def state_can_be_taken_up(optimizer: Optimizer) -> None:
    """Demand a state of tensors and plain values, from which the next step is the same."""
    weights, rule = _ready(optimizer)
    for _ in range(3):
        _step(weights, rule)
    state = copy.deepcopy(rule.state_dict())
    _demand_plain(state)
    others, other = _ready(optimizer)
    for mine, theirs in zip(weights, others, strict=True):
        theirs.data.copy_(mine.data)
    other.load_state_dict(state)
    _step(weights, rule)
    _step(others, other)
    same = all(mine.equal(theirs) for mine, theirs in zip(weights, others, strict=True))
    demand(same, "after state_dict and load_state_dict the next step differs; keep all in `state`")


def _demand_plain(state: dict[str, Any]) -> None:
    import torch

    plain = [
        (key, value)
        for values in (*state["state"].values(), *state["param_groups"])
        for key, value in values.items()
        if not isinstance(value, torch.Tensor)
    ]
    for key, value in plain:
        try:
            json.dumps(value)
        except TypeError:
            demand(False, f"its state {key!r} is a {type(value).__name__}; use tensors and numbers")


def _ready(optimizer: Optimizer) -> tuple[list[Tensor], torch.optim.Optimizer]:
    """Return weights in two groups of different rates, and the rule over them."""
    import torch

    weights: list[Tensor] = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    groups: list[dict[str, Any]] = [
        {"params": weights[:1], "lr": optimizer.lr / 10, "name": "head"},
        {"params": weights[1:], "lr": optimizer.lr, "name": "*"},
    ]
    rule = optimizer.build(groups)
    kind = type(rule).__name__
    demand(isinstance(rule, torch.optim.Optimizer), f"build() returns a {kind}, not torch's")
    return weights, rule


def _bowl(weights: list[Tensor]) -> Tensor:
    import torch

    return (torch.cat(weights) - _TARGET).square().sum()


def _step(weights: list[Tensor], rule: torch.optim.Optimizer) -> None:
    rule.zero_grad()
    _bowl(weights).backward()  # type: ignore[no-untyped-call]
    rule.step()


OPTIMIZER: tuple[Check, ...] = (one_step_goes_down, rates_are_kept, state_can_be_taken_up)
