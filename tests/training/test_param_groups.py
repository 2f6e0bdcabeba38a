from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from sightx import SpecError
from sightx.builtin import losses, optimizers
from sightx.builtin.models.resnet import ResNet50
from sightx.builtin.models.simple_cnn import SimpleCnn
from sightx.builtin.models.simplenet import SimpleNet
from sightx.plugin import Model, ParamGroup, split_param_groups
from sightx.training import param_groups, setup


def test_each_parameter_is_in_the_first_group_that_matches() -> None:
    module = SimpleNet(hidden=(3,)).build(channels=1, outputs=2, size=(2, 2))
    optimizer = optimizers.Adam(
        lr=0.1,
        group=(ParamGroup(match=("head.bias",), lr=0.3), ParamGroup(match=("head.*",), lr=0.2)),
    )
    groups = param_groups.param_groups(module, optimizer)
    named = {id(weight): name for name, weight in module.named_parameters()}
    assert all([named[id(w)] for w in g["params"]] == g["param_names"] for g in groups)
    assert [(set(g["param_names"]), g["lr"]) for g in groups] == [
        ({"head.bias"}, 0.3), ({"head.weight"}, 0.2), ({"hidden1.weight", "hidden1.bias"}, 0.1),
    ]  # fmt: skip


def test_a_group_without_parameters_is_refused_and_frozen_ones_are_in_none() -> None:
    module = setup.build_module(
        SimpleCnn(widths=(4, 8)), losses.CrossEntropy(), 3, (3, 8, 8), seed=0
    )
    setup.freeze(module, ["head"])
    weights = [w for g in param_groups.param_groups(module, optimizers.Adam()) for w in g["params"]]
    assert len(weights) == 2
    with pytest.raises(SpecError, match="block1"):
        param_groups.param_groups(
            module, optimizers.Adam(group=(ParamGroup(match=("block1",), lr=0.1),))
        )


class Plain(Model):
    """A model that declares no stages."""

    name = "test-plain"


def depths_of(module: nn.Module, model: Model | None = None) -> dict[str, int]:
    return param_groups.layer_depths(module, model or Plain())


def first_words(depths: dict[str, int], words: int) -> dict[str, set[int]]:
    """Return the depths of the parameters whose names begin with the same words."""
    result: dict[str, set[int]] = {}
    for name, depth in depths.items():
        result.setdefault(".".join(name.split(".")[:words]), set()).add(depth)
    return result


def test_the_layers_of_a_transformer_are_its_blocks() -> None:
    with torch.device("meta"):
        depths = depths_of(torchvision.models.vit_b_16())
    assert depths["class_token"] == depths["conv_proj.weight"] == 0
    assert depths["encoder.pos_embedding"] == 0
    blocks = first_words(depths, 3)
    assert [blocks[f"encoder.layers.encoder_layer_{n}"] for n in range(12)] == [
        {n} for n in range(1, 13)
    ]
    assert depths["encoder.ln.weight"] == 12
    assert depths["heads.head.weight"] == depths["heads.head.bias"] == 13


def test_the_layers_of_a_network_without_stages_are_its_blocks_and_what_is_between_them() -> None:
    with torch.device("meta"):
        depths = depths_of(torchvision.models.resnet18())
    blocks = first_words(depths, 2)
    assert depths["conv1.weight"] == depths["bn1.weight"] == 0
    names = [f"layer{layer}.{block}" for layer in range(1, 5) for block in range(2)]
    assert [blocks[name] for name in names] == [{n} for n in range(1, 9)]
    assert depths["fc.bias"] == 9
    nested = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), nn.ReLU(), nn.ModuleList([nn.Linear(2, 1)])
    )
    assert depths_of(nested) == {
        "0.0.weight": 0, "0.0.bias": 0, "0.1.weight": 0, "0.1.bias": 0, "2.0.weight": 1,
        "2.0.bias": 1,
    }  # fmt: skip


def test_the_layers_of_a_chain_are_its_stages_with_weights() -> None:
    model = ResNet50(hidden=())
    with torch.device("meta"):
        depths = depths_of(model.build(channels=3, outputs=2, size=(32, 32)), model)
    assert first_words(depths, 1) == {
        "conv1": {0}, "bn1": {0}, "layer1": {1}, "layer2": {2}, "layer3": {3}, "layer4": {4},
        "head": {5},
    }  # fmt: skip


def test_groups_are_split_by_layer_and_by_weight_decay() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2), nn.Linear(2, 1))
    names = [name for name, _ in module.named_parameters()]
    group = {"params": list(module.parameters()), "param_names": names, "lr": 0.8, "name": "*"}
    layers = depths_of(module)
    assert split_param_groups([group], layers) == [group]
    split = split_param_groups([group], layers, layer_decay=0.5, decay_norms_and_biases=False)
    facts = [(part["param_names"], part["lr"], part.get("weight_decay")) for part in split]
    assert facts == [
        (["0.weight"], 0.2, None), (["0.bias", "1.weight", "1.bias"], 0.2, 0.0),
        (["2.weight"], 0.4, None), (["2.bias"], 0.4, 0.0),
        (["3.weight"], 0.8, None), (["3.bias"], 0.8, 0.0),
    ]  # fmt: skip
    named = dict(module.named_parameters())
    assert all(
        w is named[n] for p in split for n, w in zip(p["param_names"], p["params"], strict=True)
    )
    assert {part["name"] for part in split} == {"*"}
