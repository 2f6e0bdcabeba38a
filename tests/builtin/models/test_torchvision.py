from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from importlib import metadata
from importlib.resources import files

import pytest
import torch
from pydantic import ValidationError
from torchvision import models

from sightx import SpecError
from sightx.builtin.models.torchvision import TorchvisionModel

NAMES = models.list_models(module=models)
SIZES = {"maxvit_t": (224, 224), "vit_h_14": (28, 28), "inception_v3": (75, 80)}


def size_for(arch: str) -> tuple[int, int]:
    return SIZES.get(arch, (64, 64))


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("resnet18", (32, 48)),
        ("mobilenet_v3_small", (64, 32)),
        ("squeezenet1_1", (64, 64)),
        ("googlenet", (48, 48)),
        ("regnet_y_400mf", (32, 32)),
        ("shufflenet_v2_x0_5", (32, 32)),
    ],
)
def test_one_of_a_family_learns(arch: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = TorchvisionModel(arch=arch).build(channels=3, outputs=7, size=size)
    outputs = network.train()(torch.rand(4, 3, *size))
    assert isinstance(outputs, torch.Tensor)
    assert outputs.shape == (4, 7)
    outputs.square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize(
    "arch",
    ["vit_b_16", "inception_v3", "densenet121", "maxvit_t", "swin_t", "regnet_x_400mf", "vgg11_bn"],
)
def test_one_of_a_family_builds_without_memory(arch: str) -> None:
    size = size_for(arch)
    with torch.device("meta"):
        network = TorchvisionModel(arch=arch).build(channels=3, outputs=7, size=size)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert network.train()(torch.empty(2, 3, *size, device="meta")).shape == (2, 7)


FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "swin_t", "swin_v2_t", "vgg11_bn",
)  # fmt: skip


@pytest.mark.parametrize("arch", FAMILIES)
def test_stages_do_what_the_network_does(arch: str) -> None:
    model, size = TorchvisionModel(arch=arch), size_for(arch)
    torch.manual_seed(0)
    network = model.build(channels=3, outputs=7, size=size).eval()
    images = torch.rand(2, 3, *size)
    stages = model.stages(network)
    assert stages is not None
    with torch.no_grad():
        outputs = images
        for stage in stages:
            outputs = stage(outputs)
        assert torch.equal(outputs, network(images))
    weights = {id(weight) for stage in stages for weight in stage.parameters()}
    assert weights == {id(weight) for weight in network.parameters()}


def test_a_network_that_is_no_chain_has_no_stages() -> None:
    model = TorchvisionModel(arch="googlenet")
    with torch.device("meta"):
        network = model.build(channels=3, outputs=7, size=(64, 64))
    assert model.stages(network) is None


@pytest.mark.slow
@pytest.mark.parametrize("arch", NAMES)
def test_every_network_builds(arch: str) -> None:
    size = size_for(arch)
    with torch.device("meta"):
        network = TorchvisionModel(arch=arch).build(channels=3, outputs=7, size=size)
        options = {"init_weights": False} if arch in ("googlenet", "inception_v3") else {}
        reference = models.get_model(arch, **options) if arch[:6] != "regnet" else None
    assert network.train()(torch.empty(2, 3, *size, device="meta")).shape == (2, 7)
    if reference is not None and arch[:3] != "vit":
        own = {name: value.shape for name, value in network.state_dict().items()}
        theirs = {name: value.shape for name, value in reference.state_dict().items()}
        assert set(own) <= set(theirs)
        differing = {name.rpartition(".")[0] for name in own if own[name] != theirs[name]}
        assert len(differing) == 1


@pytest.mark.parametrize(
    ("arch", "head", "outputs"),
    [
        ("googlenet", "fc", 7),
        ("densenet121", "classifier", 7),
        ("squeezenet1_1", "classifier.1", 7),
        ("squeezenet1_1", "classifier.1", 1000),
        ("mnasnet0_5", "classifier.1", 1000),
    ],
)
def test_published_weights_fill_all_but_the_classifier(
    arch: str, head: str, outputs: int, tmp_path, monkeypatch
) -> None:
    """The donor is a network of torchvision's own, with the extra heads that its files hold."""
    options = {"init_weights": False} if arch == "googlenet" else {}
    donor = models.get_model(arch, weights=None, **options)
    state = donor.state_dict()
    if arch == "densenet121":  # as the published files name them
        for key in list(state):
            state[
                re.sub(r"(norm|conv)(\d)\.(?=\w+$)", r"\1.\2.", key) if "layer" in key else key
            ] = state.pop(key)
    torch.save(state, tmp_path / "saved")
    digest = hashlib.sha256((tmp_path / "saved").read_bytes()).hexdigest()
    file = (tmp_path / "saved").rename(tmp_path / f"{arch}-{digest[:8]}.pth")
    entry = models.get_model_weights(arch).DEFAULT
    monkeypatch.setattr(entry, "_value_", replace(entry.value, url=file.as_uri()))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))

    model = TorchvisionModel(arch=arch, weights="imagenet")
    network = model.build(channels=3, outputs=outputs, size=(32, 32))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model.initialise(network)
    given = donor.state_dict()
    for name, value in network.state_dict().items():
        expected = before if name.rpartition(".")[0] == head else given
        assert torch.equal(value, expected[name]), name
    assert not torch.equal(before[f"{head}.weight"], given[f"{head}.weight"][:outputs])


def test_rescaling_of_pixels_does_not_hang_on_the_source_of_the_weights() -> None:
    for weights in ("none", "imagenet", "run:3f9a"):
        with torch.device("meta"):
            network = TorchvisionModel(arch="googlenet", weights=weights).build(
                channels=3, outputs=2, size=(64, 64)
            )
        assert network.transform_input is True


def test_normalization_is_what_torchvision_declares_for_each() -> None:
    for arch in NAMES:
        declared = models.get_model_weights(arch).DEFAULT.transforms()
        expected = tuple(declared.mean), tuple(declared.std)
        assert TorchvisionModel(arch=arch).normalization() == expected, arch


@pytest.mark.parametrize(
    ("arch", "hint"),
    [
        ("resnet19", "did you mean 'resnet18'"),
        ("ResNet18", "did you mean 'resnet18'"),
        ("fasterrcnn_resnet50_fpn", ""),
        ("???", "resnet18 and vit_b_16 are some"),
    ],
)
def test_an_unknown_name_is_not_valid(arch: str, hint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TorchvisionModel(arch=arch)
    (error,) = caught.value.errors()
    assert (error["type"], error["loc"]) == ("unknown-arch", ("arch",))
    assert error["msg"] == f"torchvision has no classification network {arch!r}"
    assert hint in error["ctx"]["hint"]


def test_a_name_that_only_a_newer_torchvision_may_have_is_looked_up_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sightx.builtin.models.torchvision.version", lambda name: "99.0")
    model = TorchvisionModel(arch="resnet19")
    with pytest.raises(SpecError, match=r"error\[unknown-arch\] model.arch: .*'resnet18'"):
        model.build(channels=3, outputs=2, size=(64, 64))


def test_other_channels_are_refused() -> None:
    with pytest.raises(SpecError, match=r"error\[channels\].*needs 3 channels.* have 1"):
        TorchvisionModel(arch="resnet18").build(channels=1, outputs=2, size=(64, 64))


@pytest.mark.parametrize(
    ("arch", "weights", "size", "message"),
    [
        ("inception_v3", "none", (64, 80), "needs at least 75x75 pixels, not 64x80"),
        ("vit_b_16", "none", (64, 80), "squares with a multiple of 16 pixels, not 64x80"),
        ("vit_b_16", "none", (70, 70), "squares with a multiple of 16 pixels, not 70x70"),
        ("vit_b_16", "imagenet", (64, 64), "imagenet needs 224x224, not 64x64"),
        ("maxvit_t", "none", (64, 64), "not divisible"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    arch: str, weights: str, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TorchvisionModel(arch=arch, weights=weights).build(channels=3, outputs=2, size=size)


def test_the_shipped_names_are_torchvisions() -> None:
    shipped = (files("sightx.builtin.models") / "torchvision_names.txt").read_text().split()
    there = models.list_models(module=models)
    release = [int(part) for part in metadata.version("torchvision").split(".")[:2]]
    if release < [int(part) for part in shipped[0].split(".")]:
        assert set(there) <= set(shipped[1:])
    else:
        assert metadata.version("torchvision").startswith(shipped[0]), "write the list again"
        assert shipped[1:] == there
