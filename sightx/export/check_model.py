"""Check an exported model: intact files, and the same answers on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sightx.errors import Problem, RunError
from sightx.export import golden
from sightx.export.model import exact_predictor
from sightx.export.parity import BOUND, compare, largest_difference, predict_one_by_one
from sightx.inference import model_folder
from sightx.inference.model_folder import Manifest
from sightx.inference.onnx_network import OnnxNetwork
from sightx.inference.predictor import Predictor

if TYPE_CHECKING:
    from torch import Tensor

_INT8_BOUND = 0.02
"""Largest difference of an int8 network's probabilities: a rounding error is one of 255 steps."""


def check_model(folder: Path) -> Iterator[str]:
    """Yield one line per check that an exported model passes.

    Raises RunError for the first one that fails, PluginError if the extra `onnx` is needed and not
    installed.
    """
    manifest = model_folder.read_manifest(folder)
    for name in manifest.files:
        model_folder.read_file(folder, manifest, name)
    yield f"{len(manifest.files)} files are those of the manifest"
    predictor = exact_predictor(Predictor.load(folder, "cpu"))
    answers = json.loads(model_folder.read_file(folder, manifest, golden.ANSWERS))
    pixels = _check_pixels(folder, manifest, predictor, answers)
    yield f"{len(pixels)} golden images are preprocessed to the same pixels"
    expected = np.array(
        [[share["probability"] for share in answers[name]["probabilities"]] for name in answers]
    )
    table = predict_one_by_one(predictor, pixels)
    yield _compare("torch", table.probabilities, expected)
    if model_folder.ONNX in manifest.files:
        content = model_folder.read_file(folder, manifest, model_folder.ONNX)
        network = OnnxNetwork(content)
        yield _compare("onnx", network.run(pixels)[0], expected)
        parity = compare(model_folder.ONNX, predictor, network.run, pixels, table)
        yield str(parity.checked())
    if model_folder.INT8 in manifest.files:
        content = model_folder.read_file(folder, manifest, model_folder.INT8)
        expected = np.array([answer["int8"] for answer in answers.values()])
        yield _compare("int8", OnnxNetwork(content).run(pixels)[0], expected, _INT8_BOUND)


def _check_pixels(
    folder: Path, manifest: Manifest, predictor: Predictor, answers: Mapping[str, Any]
) -> Tensor:
    """Return the preprocessed golden images, uint8 (N, C, H, W), after checking every pixel."""
    rows = []
    for name, answer in answers.items():
        content = model_folder.read_file(folder, manifest, f"{golden.FOLDER}/{name}")
        rows.append(predictor.preprocess(content))
        if golden.pixels_sha256(rows[-1]) != answer["pixels_sha256"]:
            hint = "compare the versions of Pillow, simplejpeg and torch with those of the export"
            message = f"{golden.FOLDER}/{name} is preprocessed to other pixels"
            raise RunError(Problem("not-equal", message, hint, file=str(folder)))
    return torch.stack(rows)


def _compare(engine: str, actual: Any, expected: Any, bound: float = BOUND) -> str:
    difference = largest_difference(actual, expected)
    line = f"{engine}: largest difference of a golden probability {difference:.1e}"
    if difference > bound:
        hint = "compare the versions of torch and onnxruntime with those of the export"
        raise RunError(Problem("not-equal", f"{line}, bound {bound:.0e}", hint))
    return line
