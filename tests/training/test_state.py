from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from sightx.training import state


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_a_packed_optimizer_goes_on_as_if_nothing_had_been(name: str) -> None:
    def world() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        settings = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        return module, getattr(torch.optim, name)(module.parameters(), lr=0.1, **settings)

    def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            module(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()

    whole, optimizer = world()
    steps(whole, optimizer, 5)

    first, optimizer = world()
    steps(first, optimizer, 3)
    tensors, record = state.pack(optimizer)
    stored = json.loads(json.dumps(record))
    second, fresh = world()
    second.load_state_dict(first.state_dict())
    state.unpack(fresh, {key: value.clone() for key, value in tensors.items()}, stored)
    steps(second, fresh, 2)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_figures_survive_json_with_what_is_not_finite_as_nan() -> None:
    text = json.dumps(state.to_json({"a": 0.1, "b": math.nan, "c": math.inf}), allow_nan=False)
    back = state.from_json(json.loads(text))
    assert back["a"] == 0.1
    assert math.isnan(back["b"])
    assert math.isnan(back["c"])
