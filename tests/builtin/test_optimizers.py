from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sightx.builtin.optimizers import Adam, AdamW, RmsProp, Sgd
from sightx.plugin import Optimizer

PAIRS: list[tuple[Optimizer, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (Sgd(), torch.optim.SGD, {"lr": 1e-2}),
    (
        Sgd(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    (
        Sgd(lr=0.1, momentum=0.9, dampening=0.5),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5},
    ),
    (Adam(), torch.optim.Adam, {}),
    (
        Adam(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, amsgrad=True),
        torch.optim.Adam,
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True},
    ),
    (AdamW(), torch.optim.AdamW, {}),
    (AdamW(weight_decay=0.3), torch.optim.AdamW, {"weight_decay": 0.3}),
    (RmsProp(), torch.optim.RMSprop, {"lr": 1e-3}),
    (
        RmsProp(lr=0.02, alpha=0.9, momentum=0.5, eps=1e-4, weight_decay=0.1, centered=True),
        torch.optim.RMSprop,
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "eps": 1e-4, "weight_decay": 0.1,
         "centered": True},
    ),
]  # fmt: skip


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def train(network: nn.Sequential, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        images = torch.randn(10, 6, generator=generator)
        targets = torch.randint(3, (10,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    return list(network.parameters())


@pytest.mark.parametrize(("component", "cls", "settings"), PAIRS)
def test_training_is_torchs(
    component: Optimizer, cls: type[torch.optim.Optimizer], settings: dict[str, Any]
) -> None:
    network, reference = small_net(), small_net()
    before = [weight.detach().clone() for weight in network.parameters()]
    groups = [
        {"params": list(network[2].parameters()), "lr": 5e-3, "name": "0"},
        {"params": list(network[0].parameters()), "lr": component.lr, "name": "rest"},
    ]
    built = component.build(groups, layers={})
    assert isinstance(built, cls)
    assert [group["name"] for group in built.param_groups] == ["0", "rest"]
    theirs = cls(
        [
            {"params": list(reference[2].parameters()), "lr": 5e-3},
            {"params": list(reference[0].parameters())},
        ],
        **settings,
    )
    own, expected = train(network, built), train(reference, theirs)
    for one, other in zip(own, expected, strict=True):  # ours may be torch's fused kernel
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert not any(torch.equal(a, b) for a, b in zip(own, before, strict=True))


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (Adam, '{"betas": [0.9, 1.0]}'),
        (Adam, '{"betas": [-0.1, 0.9]}'),
        (Adam, '{"betas": [0.9]}'),
        (AdamW, '{"betas": [0.9, 0.99, 0.999]}'),
        (Adam, '{"betas": ["0.9", 0.99]}'),
        (Adam, '{"lr": 0}'),
        (Adam, '{"eps": 0.0}'),
        (RmsProp, '{"alpha": 1.0}'),
        (Sgd, '{"momentum": 1.0}'),
        (Sgd, '{"weight_decay": -1.0}'),
        (Sgd, '{"momentun": 0.9}'),
    ],
)
def test_wrong_settings_are_refused(cls: type[Optimizer], text: str) -> None:
    with pytest.raises(ValidationError):
        cls.model_validate_json(text)


@pytest.mark.parametrize(
    "text", ['{"nesterov": true}', '{"nesterov": true, "momentum": 0.9, "dampening": 0.1}']
)
def test_nesterov_names_what_it_needs(text: str) -> None:
    with pytest.raises(ValidationError, match="nesterov needs momentum above 0 and dampening 0"):
        Sgd.model_validate_json(text)


def test_spec_table_is_read() -> None:
    text = '{"betas": [0.5, 0.9], "group": [{"match": ["head.*"], "lr": 0.001}]}'
    adam = Adam.model_validate_json(text)
    assert adam.betas == (0.5, 0.9)
    assert adam.group[0].match == ("head.*",)


@pytest.mark.parametrize("component", [Sgd(), Adam(), AdamW(), RmsProp()])
def test_kernels_are_fused_where_torch_has_them(component: Optimizer) -> None:
    for device, fused in (("cpu", True), ("meta", False)):
        weight = nn.Parameter(torch.zeros(3, device=device))
        (group,) = component.build([{"params": [weight]}], layers={}).param_groups
        assert group.get("fused", fused) is fused


def test_training_imports_no_compiler() -> None:
    code = """
import sys, torch
from sightx.builtin.optimizers import Adam, AdamW, RmsProp, Sgd
for component in (Adam(), AdamW(), RmsProp(), Sgd(momentum=0.9)):
    network = torch.nn.Linear(3, 2)
    optimizer = component.build([{"params": list(network.parameters()), "lr": 0.1}], layers={})
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
