"""Networks as graphs; test_model.py compares their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sightx
from sightx import RunError
from sightx.builtin.losses import CrossEntropy
from sightx.builtin.models.simplenet import SimpleNet
from sightx.export.graph import to_onnx, to_torch_export
from sightx.inference.prediction import ModelId
from sightx.inference.predictor import Predictor
from sightx.inference.recipe import Recipe
from support.commands import sightx_main


def predictor(module: nn.Module) -> Predictor:
    recipe = Recipe(
        classes=("a", "b"), ordered=False, shape=(3, 4, 4), mean=(0.5,) * 3, std=(0.5,) * 3,
        preprocess=(), model=SimpleNet(), loss=CrossEntropy(),
    )  # fmt: skip
    model = ModelId(id="run@step", weights_sha256="0" * 64)
    return Predictor(recipe, module, torch.device("cpu"), model)


def test_an_onnx_file_is_complete_and_names_its_classes() -> None:
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    proto = onnx.load_from_string(to_onnx(predictor(module), {"classes": ["a", "b"]}))
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    (images,) = proto.graph.input
    batch, *others = images.type.tensor_type.shape.dim
    assert (batch.dim_param, batch.dim_value) == ("batch", 0)
    assert [edge.dim_value for edge in others] == [3, 4, 4]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    properties = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert properties["classes"] == ["a", "b"]


def test_a_network_without_a_graph_is_named_in_one_line() -> None:
    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            means = images.mean(dim=(1, 2, 3))
            return torch.stack([means, -means if float(means.sum()) > 0 else means], dim=1)

    with pytest.raises(RunError, match="cannot-export") as caught:
        to_torch_export(predictor(Branching()))
    assert "\n" not in str(caught.value)


BRANCHING = """
import torch
from torch import nn
from sightx.plugin import Model, hookimpl


class Network(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.head = nn.Linear(width, outputs)

    def forward(self, images):
        sign = 1 if float(images.mean()) > 0 else -1
        return self.head(sign * images.flatten(1))


class Branching(Model):
    \"\"\"A network whose path depends on its input.\"\"\"

    name = "branching"

    def build(self, channels, outputs, size):
        return Network(channels * size[0] * size[1], outputs)


@hookimpl
def sightx_components():
    return [Branching]
"""


def test_weights_need_no_graph(
    install: Callable[..., Path], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("branching", BRANCHING)
    folder = spec.parent
    run = sightx.run(spec, runs=folder / "runs", overrides={"model": {"use": "branching"}})
    words = ["export", str(run.directory), "--to", str(folder / "model")]
    assert sightx_main(*words, "--format", "torch-export") == 5
    assert "--format safetensors needs no graph" in capsys.readouterr().err
    assert sightx_main(*words, "--format", "safetensors") == 0
    assert sightx_main("predict", str(folder / "model"), str(folder / "data" / "test")) == 0
