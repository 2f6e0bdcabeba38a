"""Grad-CAM, against captum and against a lesion whose place is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightx
from sightx import SpecError
from sightx.builtin.losses import CrossEntropy
from sightx.builtin.models.simplenet import SimpleNet
from sightx.inference.explain import draw, grad_cam, last_spatial_layer
from sightx.inference.recipe import Recipe


def recipe(*, ordered: bool) -> Recipe:
    return Recipe(
        classes=("a", "b", "c"), ordered=ordered, shape=(3, 16, 16), mean=(0.5,) * 3,
        std=(0.5,) * 3, preprocess=(), model=SimpleNet(), loss=CrossEntropy(),
    )  # fmt: skip


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()  # fmt: skip


def expected_grade(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda images: module(images).softmax(dim=1) @ torch.arange(3.0)


@pytest.mark.parametrize("ordered", [False, True])
def test_maps_equal_those_of_captum(ordered: bool) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is in the extra dev")
    module, images = network(), torch.randn(4, 3, 16, 16)
    for weight in module.parameters():
        weight.requires_grad_(False)  # as in a frozen network
    layer = last_spatial_layer(module, images[:1])
    decisions = module(images).argmax(dim=1)
    maps = grad_cam(recipe(ordered=ordered), module, layer, images, decisions)
    score, target = (expected_grade(module), None) if ordered else (module, decisions)
    judge = captum.LayerGradCam(score, layer)
    inputs = images.clone().requires_grad_()
    expected = judge.attribute(inputs, target=target, relu_attributions=True).detach()
    expected = nn.functional.interpolate(expected, (16, 16), mode="bilinear")[:, 0]
    expected /= expected.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)
    assert expected.max() > 0
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_the_last_layer_of_several_pixels_is_explained() -> None:
    module = network()
    assert last_spatial_layer(module, torch.zeros(1, 3, 16, 16)) is module[5]
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_lesion_is_found_where_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                           nn.Linear(1, 2))  # fmt: skip
    nn.init.ones_(module[0].weight)
    module[0].bias.data.fill_(-1)
    module[4].weight.data = torch.tensor([[-1.0], [1.0]])
    images = torch.zeros(1, 3, 16, 16)
    images[:, :, 2:6, 9:13] = 1
    heat = grad_cam(recipe(ordered=False), module, module[1], images, torch.tensor([1]))[0]
    assert heat.max() == 1
    assert heat[:8, 8:].sum() == heat.sum()


def test_a_network_without_a_layer_of_several_pixels_cannot_be_explained() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(SpecError, match="cannot-explain"):
        last_spatial_layer(module, torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_without_heat_are_drawn_as_they_are(channels: int) -> None:
    pixels = torch.arange(channels * 12, dtype=torch.uint8).reshape(channels, 3, 4)
    heat = torch.zeros(3, 4)
    heat[1, 2] = 1
    drawn = draw(pixels, heat).overlay
    same = np.broadcast_to(pixels.permute(1, 2, 0).numpy(), (3, 4, 3))
    assert (drawn != same).any(axis=-1).tolist() == (heat == 1).tolist()


def test_a_predictor_explains_an_image_and_keeps_its_prediction(
    folders: Path, spec: Path, tmp_path: Path
) -> None:
    text = spec.read_text().replace('"simplenet"', '"simple-cnn"').replace("[6]", "[4]")
    spec.write_text(text.replace("epochs = 2", "epochs = 1"))
    run = sightx.run(sightx.load(spec, ["model.widths=[4]"]), runs=tmp_path / "runs")
    predictor = sightx.Predictor.load(run.directory, "cpu")
    file = folders / "test" / "dark" / "0.png"
    before = predictor.predict(file)
    explanation = predictor.explain(file)
    assert explanation.heat.shape == (8, 8)
    assert explanation.overlay.shape == (8, 8, 3)
    assert predictor.predict(file) == before
