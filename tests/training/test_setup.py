from __future__ import annotations

import pytest
import torch
from torch import nn

from sightx import ResourceError, SpecError
from sightx.builtin import losses
from sightx.builtin.models.simple_cnn import SimpleCnn
from sightx.plugin import Model
from sightx.training import setup


def network() -> nn.Module:
    return setup.build_module(SimpleCnn(widths=(4, 8)), losses.CrossEntropy(), 3, (3, 8, 8), seed=0)


def test_auto_takes_the_fastest_device_of_the_machine() -> None:
    best = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.backends.mps.is_available():
        best = "mps"
    assert setup.choose_device("auto").type == best
    assert setup.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "cuda", "mps"])
def test_a_device_that_the_machine_lacks_is_exit_7(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has mps")
    with pytest.raises(ResourceError, match=f"no device {name}") as caught:
        setup.choose_device(name)
    assert caught.value.exit_code == 7


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(123)
    first = network().state_dict()
    torch.manual_seed(456)
    second = network().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = setup.build_module(
        SimpleCnn(widths=(4, 8)), losses.CrossEntropy(), 3, (3, 8, 8), seed=1
    ).state_dict()
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_size_that_a_model_refuses_is_one_line() -> None:
    with pytest.raises(SpecError, match=r"simple-cnn.*too small"):
        setup.build_module(SimpleCnn(), losses.CrossEntropy(), 3, (3, 4, 4), seed=0)


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ((), {"block1", "block2", "hidden1", "head"}),
        (("head",), {"head"}),
        (("block2", "head"), {"block2", "head"}),
        (("block*",), {"block1", "block2"}),
        (("head.bias",), {"head"}),
    ],
)
def test_only_the_named_parts_are_trainable(trainable: tuple[str, ...], expected: set[str]) -> None:
    module = network()
    setup.freeze(module, trainable)
    parts = {n.partition(".")[0] for n, w in module.named_parameters() if w.requires_grad}
    assert parts == expected


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="'tail'; parts: block1, block2"):
        setup.freeze(network(), ["tail"])


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    module = network()
    setup.freeze(module, ["block2", "head"])
    setup.train_mode(module)
    modes = {name: part.training for name, part in module.named_children()}
    assert modes["block1"] is False
    assert modes["block2"] is True
    assert module.get_submodule("block1.norm").training is False


@pytest.mark.parametrize(
    ("device", "precision", "last"),
    [("cpu", "fp32", True), ("cpu", "bf16", True), ("meta", "bf16", False)],
)
def test_convolutions_are_stored_as_they_compute_fastest(
    device: str, precision: str, last: bool
) -> None:
    model = SimpleCnn()
    module = model.build(channels=3, outputs=2, size=(16, 16)).to(device)
    shapes = [weight.shape for weight in module.parameters()]
    setup.to_channels_last(module, model, torch.device(device), precision)
    wide = [w for w in module.parameters() if w.ndim == 4]
    assert all(w.is_contiguous(memory_format=torch.channels_last) == last for w in wide)
    assert [weight.shape for weight in module.parameters()] == shapes


class Viewing(Model):
    """Flatten as many networks do, which channels last would break."""

    name = "test-viewing"

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 4, 3), View())


class View(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.view(len(images), -1)


def test_a_model_that_does_not_declare_channels_last_keeps_its_memory_order() -> None:
    model = Viewing()
    module = model.build(channels=3, outputs=2, size=(6, 6))
    setup.to_channels_last(module, model, torch.device("cpu"), "bf16")
    assert module(torch.ones(2, 3, 6, 6)).shape == (2, 64)
