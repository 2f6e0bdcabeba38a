"""Networks as graphs; test_model.py compares their answers."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from sightx import RunError
from sightx.builtin.losses import CrossEntropy
from sightx.builtin.models.simplenet import SimpleNet
from sightx.export.graph import to_onnx, to_torch_export
from sightx.inference.prediction import ModelId
from sightx.inference.predictor import Predictor
from sightx.inference.recipe import Recipe


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
