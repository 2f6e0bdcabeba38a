from __future__ import annotations

import hashlib
from dataclasses import replace
from fnmatch import fnmatch

import pytest
import torch
import torchvision

from sightx import SpecError
from sightx.builtin.models.resnet import ResNet50


def test_last_stage_and_head_have_16_million_weights() -> None:
    with torch.device("meta"):
        network = ResNet50().build(channels=3, outputs=5, size=(224, 224))
    trained = [network.layer4, network.head]
    assert sum(w.numel() for part in trained for w in part.parameters()) == 16_016_389
    head = {name for name, _ in network.named_parameters() if fnmatch(name, "head.*")}
    assert head == {
        f"head.{part}.{kind}" for part in ("hidden1", "output") for kind in ("weight", "bias")
    }


def test_network_is_torchvisions_with_its_names() -> None:
    reference = torchvision.models.resnet50(weights=None, num_classes=4)
    network = ResNet50(hidden=()).build(channels=3, outputs=4, size=(64, 64))
    state = reference.state_dict()
    state["head.output.weight"] = state.pop("fc.weight")
    state["head.output.bias"] = state.pop("fc.bias")
    network.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network.eval()(images), reference.eval()(images))


def test_head_of_two_hidden_layers_drops_out_between() -> None:
    with torch.device("meta"):
        network = ResNet50(hidden=(64, 32), dropout=0.3).build(channels=3, outputs=5, size=(64, 64))
    assert [name for name, _ in network.head.named_children()] == [
        "hidden1", "relu1", "dropout1", "hidden2", "relu2", "dropout2", "output",
    ]  # fmt: skip


def test_first_layer_of_other_channels_is_drawn_as_torchvision_draws() -> None:
    torch.manual_seed(0)
    weight = ResNet50().build(channels=6, outputs=2, size=(64, 64)).conv1.weight
    assert weight.shape == (64, 6, 7, 7)
    assert weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.03)


def test_published_weights_want_three_channels() -> None:
    with pytest.raises(SpecError, match=r"error\[channels\] model.weights: .*'imagenet'.*have 1"):
        ResNet50(weights="imagenet").build(channels=1, outputs=2, size=(64, 64))


@pytest.mark.parametrize(("name", "member"), [("imagenet", "V2"), ("imagenet-v1", "V1")])
def test_imagenet_weights_fill_all_but_the_head(
    name: str, member: str, tmp_path, monkeypatch
) -> None:
    reference = torchvision.models.resnet50(weights=None)
    torch.save(reference.state_dict(), tmp_path / "saved")
    digest = hashlib.sha256((tmp_path / "saved").read_bytes()).hexdigest()
    file = (tmp_path / "saved").rename(tmp_path / f"resnet50-{digest[:8]}.pth")
    entry = torchvision.models.ResNet50_Weights[f"IMAGENET1K_{member}"]
    monkeypatch.setattr(entry, "_value_", replace(entry.value, url=file.as_uri()))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))

    model = ResNet50(weights=name)
    network = model.build(channels=3, outputs=5, size=(64, 64))
    head = {key: value.clone() for key, value in network.head.state_dict().items()}
    model.initialise(network)
    expected, got = reference.state_dict(), network.state_dict()
    assert all(torch.equal(got[key], expected[key]) for key in expected if key[:3] != "fc.")
    assert all(torch.equal(got[f"head.{key}"], head[key]) for key in head)
    assert set(got) - set(expected) == {f"head.{key}" for key in head}


def test_other_names_are_not_initialised_here() -> None:
    with pytest.raises(SpecError, match="resnet50 knows no weights called 'none'"):
        ResNet50().initialise(torch.nn.Linear(1, 1))


def test_normalization_is_what_torchvision_declares() -> None:
    declared = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert ResNet50().normalization() == (tuple(declared.mean), tuple(declared.std))
