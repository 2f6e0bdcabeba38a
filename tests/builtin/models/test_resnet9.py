from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.fft import dctn
from torch import Tensor, nn
from torch.nn import functional

from sightx.builtin.models.resnet9 import ResNet9


def test_default_has_the_weights_of_the_published_network_and_a_bias() -> None:
    network = ResNet9().build(channels=3, outputs=10, size=(32, 32))
    assert sum(weight.numel() for weight in network.parameters()) == 6_573_120 + 10
    assert set(ResNet9().parts()) == {
        name.partition(".")[0] for name, _ in network.named_parameters()
    }


def test_the_parts_of_a_cosine_stem_are_the_layers() -> None:
    network = ResNet9(stem="cosine").build(channels=3, outputs=10, size=(32, 32))
    named = {name.partition(".")[0] for name, _ in network.named_parameters()}
    assert named == set(ResNet9(stem="cosine").parts()) == {"layer1", "layer2", "layer3", "head"}


@torch.no_grad()
@pytest.mark.parametrize("stem", ["conv", "cosine"])
def test_outputs_are_those_of_a_network_written_out(stem: str) -> None:
    torch.manual_seed(0)
    model = ResNet9(stem=stem, widths=(6, 8, 10), logit_scale=0.5)
    network = model.build(channels=3, outputs=5, size=(24, 20)).eval()
    state = network.state_dict()
    for name in state:
        if "running_var" in name:
            state[name].uniform_(0.5, 2)
        elif "running_mean" in name:
            state[name].normal_()

    def norm(x: Tensor, name: str) -> Tensor:
        values = [state[f"{name}.norm.{key}"] for key in ("running_mean", "running_var")]
        affine = [state.get(f"{name}.norm.{key}") for key in ("weight", "bias")]
        return functional.batch_norm(x, *values, *affine)

    def layer(x: Tensor, name: str, *, pool: bool = False) -> Tensor:
        x = functional.conv2d(x, state[f"{name}.conv.weight"], padding=1)
        if pool:
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-2, -1))
        return norm(x, name).relu()

    images = torch.randn(2, 3, 24, 20)
    if stem == "conv":
        x = layer(images, "stem")
    else:
        padded = functional.pad(images, (1, 1, 1, 1)).numpy()
        patches = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), axis=(2, 3))
        cosines = dctn(patches, axes=(1, 4, 5), norm="ortho")  # scipy's, per patch
        x = torch.from_numpy(cosines).permute(0, 1, 4, 5, 2, 3).flatten(1, 3).contiguous()
        x = norm(x, "stem")
        x = torch.cat([x.relu(), (-x).relu()], dim=1)
    x = layer(x, "layer1.down", pool=True)
    x = x + layer(layer(x, "layer1.residual.0"), "layer1.residual.1")
    x = layer(layer(x, "layer2", pool=True), "layer3.down", pool=True)
    x = x + layer(layer(x, "layer3.residual.0"), "layer3.residual.1")
    logits = x.amax(dim=(-2, -1)) @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(network(images), logits * 0.5)


def test_too_small_images_are_refused_with_the_size_they_need() -> None:
    ResNet9().build(channels=3, outputs=2, size=(8, 8))
    with pytest.raises(ValueError, match="must be at least 8 pixels: 8x7 is too small"):
        ResNet9().build(channels=3, outputs=2, size=(8, 7))


def test_only_the_head_depends_on_the_classes() -> None:
    networks = [ResNet9().build(channels=3, outputs=n, size=(8, 8)) for n in (2, 3)]
    shapes = [{name: v.shape for name, v in net.state_dict().items()} for net in networks]
    differ = {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    (head,) = ResNet9().head_parts(networks[0])
    assert differ == {f"{head}.{name}" for name, _ in nn.Linear(1, 1).named_parameters()}


@pytest.mark.parametrize("text", ['{"widths": [8, 8]}', '{"stem": "dct"}', '{"logit_scale": 0.0}'])
def test_wrong_settings_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ResNet9.model_validate_json(text)
