"""One exported model for all tests of this folder; they do not change it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightx import Run
from sightx.export.model import export_model


@pytest.fixture(scope="session")
def exported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the trained model, exported to ONNX."""
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(trained, folder)
    return folder
