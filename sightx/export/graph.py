"""Export a network as one graph, from pixels to probabilities: ONNX, or torch.export."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from sightx.errors import Problem, RunError, missing_extra
from sightx.inference.onnx_network import INPUT, OUTPUTS
from sightx.registry.components import call_declared

if TYPE_CHECKING:
    from torch import Tensor

    from sightx.inference.predictor import Predictor
    from sightx.inference.recipe import Recipe

_Result = TypeVar("_Result")

OPSET = 20
_MAX_BATCH = 1024
_EXAMPLE_BATCH = 2  # an example of one image would fix the size of the batch


class PixelsToProbabilities(nn.Module):
    """Map pixels, uint8 (B, C, H, W), to calibrated probabilities (B, classes) and outputs (B, K).

    Normalisation is in front of the network, the loss's probabilities and the calibration of
    postprocessing behind it, so that no user of the graph can get them wrong.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, recipe: Recipe, module: nn.Module) -> None:
        super().__init__()
        self.network = module
        self._recipe = recipe
        mean, std = torch.tensor([recipe.mean, recipe.std], dtype=torch.float64)[..., None, None]
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and outputs, float32."""
        recipe = self._recipe
        outputs: Tensor = self.network(images.float() * self.scale + self.shift).float()
        probabilities: Tensor = call_declared(
            recipe.loss.probabilities, outputs, classes=len(recipe.classes)
        )
        for component, state in zip(recipe.postprocess, recipe.postprocess_states, strict=False):
            probabilities = call_declared(component.calibrate, probabilities, state)
        return probabilities.float(), outputs


def to_onnx(predictor: Predictor, properties: Mapping[str, Any]) -> bytes:
    """Return a predictor's network as one ONNX file; `properties` are written into it as JSON.

    Raises PluginError if the extra is not installed, RunError if the network cannot be exported.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise missing_extra(error.name or "onnx", "onnx") from error

    def export(module: nn.Module, example: Tensor, batch: Any) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                module, (example,), path, input_names=[INPUT], output_names=list(OUTPUTS),
                opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=({0: batch},),
            )  # fmt: skip
            proto = onnx.load(path)
        texts = {key: json.dumps(value) for key, value in properties.items()}
        onnx.helper.set_model_props(proto, texts)
        onnx.checker.check_model(proto)
        content: bytes = proto.SerializeToString()
        return content

    return _explain_errors(predictor, export)


def to_torch_export(predictor: Predictor) -> tuple[bytes, nn.Module]:
    """Return a predictor's network as the content of a `.pt2` file, and as the same module.

    SightX writes such files and never reads them: they may hold code. Raises RunError if the
    network cannot be exported.
    """

    def export(module: nn.Module, example: Tensor, batch: Any) -> tuple[bytes, nn.Module]:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        return buffer.getvalue(), program.module()

    return _explain_errors(predictor, export)


def _explain_errors(
    predictor: Predictor, export: Callable[[nn.Module, Tensor, Any], _Result]
) -> _Result:
    """Call an exporter with the module, an example and the dynamic size of the batch."""
    recipe = predictor.recipe
    module = PixelsToProbabilities(recipe, predictor.network).eval()
    example = torch.zeros((_EXAMPLE_BATCH, *recipe.shape), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # parity on real images is the judge
            return export(module, example, batch)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        message = f"{recipe.model.name} cannot be exported: {type(error).__name__}: {lines[:1]}"
        hint = "--format safetensors needs no graph; --debug shows the traceback"
        raise RunError(Problem("cannot-export", message, hint)) from error
