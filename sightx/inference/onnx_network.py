"""Compute an exported network with ONNX Runtime. Only this module imports it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sightx.errors import Problem, ResourceError, missing_extra

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Array = np.ndarray[Any, Any]

# ONNX Runtime reports to its makers unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

INPUT = "images"
OUTPUTS = ("probabilities", "outputs")


class OnnxNetwork(nn.Module):
    """A network in ONNX: it maps pixels, uint8 (B, C, H, W) on the CPU, to outputs (B, K)."""

    def __init__(self, content: bytes, threads: int = 0) -> None:
        """Load the content of an ONNX file, which is data: nothing in it can run other code.

        `threads` compute it; 0 means one per core. Raises PluginError if ONNX Runtime is missing,
        ResourceError if it cannot load the file.
        """
        super().__init__()
        self._session = _session(content, threads)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the outputs, float32 (B, K)."""
        return torch.from_numpy(self.run(pixels)[1])

    def run(self, pixels: Tensor) -> tuple[Array, Array]:
        """Return probabilities (B, classes) and outputs (B, K), float32."""
        probabilities, outputs = self._session.run(OUTPUTS, {INPUT: pixels.numpy()})
        return probabilities, outputs


def _session(content: bytes, threads: int) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise missing_extra("onnxruntime", "onnx") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, without a common base
        message = f"ONNX Runtime {ort.__version__} cannot load it: {error}"
        hint = "use --engine torch, or another version of onnxruntime"
        raise ResourceError(Problem("onnx-runtime", message, hint)) from error
