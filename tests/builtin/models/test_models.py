"""What every network that ships must do."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sightx.builtin.models.resnet import ResNet50
from sightx.builtin.models.resnet9 import ResNet9
from sightx.builtin.models.simple_cnn import SimpleCnn
from sightx.builtin.models.simplenet import SimpleNet
from sightx.builtin.models.torchvision import TorchvisionModel
from sightx.plugin import Model

NETWORKS = [
    (SimpleNet(), 3, (20, 16)),
    (SimpleNet(hidden=()), 1, (8, 8)),
    (SimpleCnn(), 3, (40, 33)),
    (SimpleCnn(widths=(4,), hidden=()), 2, (2, 9)),
    (ResNet50(), 3, (32, 32)),
    (ResNet50(hidden=(), dropout=0.2), 1, (32, 40)),
    (ResNet9(widths=(8, 8, 16)), 3, (32, 40)),
    (ResNet9(stem="cosine", widths=(8, 8, 16)), 1, (8, 9)),
    (TorchvisionModel(arch="resnet18"), 3, (32, 40)),
]


@pytest.mark.parametrize(("model", "channels", "size"), NETWORKS)
def test_network_learns_and_is_kept(
    model: Model, channels: int, size: tuple[int, int], tmp_path
) -> None:
    torch.manual_seed(0)
    network = model.build(channels=channels, outputs=5, size=size)
    images = torch.randn(4, channels, *size)
    outputs = network(images)
    assert outputs.shape == (4, 5)
    nn.functional.cross_entropy(outputs, torch.tensor([0, 1, 2, 4])).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.count_nonzero() > 0, name

    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    again = model.build(channels=channels, outputs=5, size=size)
    assert not torch.equal(again.eval()(images), network.eval()(images))
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(again(images), network(images))


@pytest.mark.parametrize(("model", "channels", "size"), NETWORKS)
def test_network_is_known_without_weights(
    model: Model, channels: int, size: tuple[int, int]
) -> None:
    with torch.device("meta"):
        shell = model.build(channels=channels, outputs=5, size=size)
    assert all(tensor.is_meta for tensor in shell.state_dict().values())
    assert shell(torch.empty(2, channels, *size, device="meta")).shape == (2, 5)


@pytest.mark.parametrize(("model", "channels", "size"), NETWORKS)
def test_build_is_a_function_of_the_seed(
    model: Model, channels: int, size: tuple[int, int]
) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(model.build(channels=channels, outputs=5, size=size).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("model", "channels", "size"), NETWORKS)
def test_stages_do_what_the_network_does(
    model: Model, channels: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = model.build(channels=channels, outputs=5, size=size).eval()
    images = torch.randn(3, channels, *size)
    stages = model.stages(network)
    assert stages is not None
    with torch.no_grad():
        assert torch.equal(nn.Sequential(*stages)(images), network(images))
    learning = {id(weight) for stage in stages for weight in stage.parameters()}
    assert learning == {id(weight) for weight in network.parameters()}


def test_the_stages_of_resnet50_are_those_that_trainable_names() -> None:
    model = ResNet50()
    with torch.device("meta"):
        network = model.build(channels=3, outputs=5, size=(32, 32))
    stem, *layers, pool, head = model.stages(network)
    named = dict(network.named_children())
    assert list(stem) == [named[name] for name in ("conv1", "bn1", "relu", "maxpool")]
    assert layers == [named[f"layer{number}"] for number in (1, 2, 3, 4)]
    assert list(pool) == [named["avgpool"], named["flatten"]]
    assert head is named["head"]
