from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from sightx.training import state


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_an_unpacked_optimizer_continues_to_the_same_bytes(name: str) -> None:
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        settings = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        return module, getattr(torch.optim, name)(module.parameters(), lr=0.1, **settings)

    def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            module(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()

    uninterrupted, optimizer = make()
    steps(uninterrupted, optimizer, 5)

    first, optimizer = make()
    steps(first, optimizer, 3)
    tensors, record = state.pack_optimizer(optimizer)
    stored = json.loads(json.dumps(record))
    second, fresh = make()
    second.load_state_dict(first.state_dict())
    state.unpack_optimizer(fresh, {key: value.clone() for key, value in tensors.items()}, stored)
    steps(second, fresh, 2)
    for one, other in zip(uninterrupted.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_moments_have_the_memory_order_of_their_weight() -> None:
    def make(last: bool, fused: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Conv2d(3, 4, 3)
        if last:
            module.to(memory_format=torch.channels_last)
        return module, torch.optim.Adam(module.parameters(), lr=0.1, fused=fused)

    def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        images = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
        module(images).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    plain, optimizer = make(last=False, fused=False)
    step(plain, optimizer)
    tensors, record = state.pack_optimizer(optimizer)
    other, fused = make(last=True, fused=True)
    other.load_state_dict(plain.state_dict())
    state.unpack_optimizer(fused, {key: value.clone() for key, value in tensors.items()}, record)
    assert fused.param_groups[0]["fused"] is True  # how, not what
    step(plain, optimizer)
    step(other, fused)
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_metrics_survive_json_and_infinity_becomes_nan() -> None:
    text = json.dumps(state.to_json({"a": 0.1, "b": math.nan, "c": math.inf}), allow_nan=False)
    back = state.from_json(json.loads(text))
    assert back["a"] == 0.1
    assert math.isnan(back["b"])
    assert math.isnan(back["c"])
