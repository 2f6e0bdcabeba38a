from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from sightx import NonFiniteError
from sightx.plugin import Problem
from sightx.training.nonfinite import NonFiniteGuard

CPU = torch.device("cpu")
ROWS = np.arange(4)
OPTIMIZERS = [
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.AdamW, {}),
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (torch.optim.SGD, {}),
]


def to_error(step: int, positions: Any) -> NonFiniteError:
    return NonFiniteError(Problem("non-finite", f"step {step}: {positions.tolist()}"))


def weight_and_optimizer(cls: Any, settings: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    weight.grad = torch.tensor([0.5, 0.25, -1.0])
    return weight, cls([weight], lr=0.1, fused=True, **settings)


@pytest.mark.parametrize(("cls", "settings"), OPTIMIZERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_set_flag_holds_back_torchs_fused_optimizers(
    cls: Any, settings: dict[str, Any], bad: float
) -> None:
    weight, optimizer = weight_and_optimizer(cls, settings)
    guard = NonFiniteGuard(optimizer, CPU, to_error, deferred=True)
    guard.check(torch.tensor(1.5), 0, ROWS)
    optimizer.step()
    moved, state = weight.detach().clone(), copy.deepcopy(optimizer.state_dict()["state"])
    assert not torch.equal(moved, torch.tensor([1.0, -2.0, 3.0]))

    guard.check(torch.tensor(bad), 1, ROWS)
    optimizer.step()
    guard.check(torch.tensor(1.5), 2, ROWS)
    optimizer.step()

    assert torch.equal(weight, moved)
    for key, value in state.get(0, {}).items():
        torch.testing.assert_close(optimizer.state[weight][key], value)
    for _ in range(2):
        with pytest.raises(NonFiniteError, match=r"step 1: \[0, 1, 2, 3\]"):
            guard.flush()


@pytest.mark.parametrize(("cls", "settings"), OPTIMIZERS)
def test_finite_losses_change_nothing(cls: Any, settings: dict[str, Any]) -> None:
    one, plain = weight_and_optimizer(cls, settings)
    other, guarded = weight_and_optimizer(cls, settings)
    guard = NonFiniteGuard(guarded, CPU, to_error, deferred=True)
    for step in range(6):
        plain.step()
        guard.check(torch.tensor(0.5), step, ROWS)
        guarded.step()
    guard.flush()
    assert torch.equal(one, other)


@pytest.mark.parametrize("bad", [0, 1, 18, 19, 20, 25])
def test_a_flag_is_read_every_twenty_steps(bad: int) -> None:
    _, optimizer = weight_and_optimizer(torch.optim.Adam, {})
    guard = NonFiniteGuard(optimizer, CPU, to_error, deferred=True)
    steps = iter(range(40))

    def check_all() -> None:
        for step in steps:
            guard.check(torch.tensor(float("nan") if step == bad else 1.0), step, ROWS)

    with pytest.raises(NonFiniteError, match=f"step {bad}: "):
        check_all()
    assert next(steps, 40) == (20 if bad < 20 else 40)
    with pytest.raises(NonFiniteError, match=f"step {bad}: "):
        guard.flush()


def test_on_the_cpu_the_loss_is_read_at_once() -> None:
    _, optimizer = weight_and_optimizer(torch.optim.Adam, {})
    guard = NonFiniteGuard(optimizer, CPU, to_error)
    assert not guard.deferred
    guard.check(torch.tensor(1.0), 0, ROWS)
    guard.flush()
    for call in (lambda: guard.check(torch.tensor(float("nan")), 7, ROWS), guard.flush):
        with pytest.raises(NonFiniteError, match="step 7: "):
            call()
    assert not hasattr(optimizer, "found_inf")
