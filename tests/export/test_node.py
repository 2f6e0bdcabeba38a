"""An exported model in another language: Node, with its own decoder and ONNX Runtime."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import sightx
from sightx.export.model import export_model
from support.models import write_tiny_spec

NODE = shutil.which("node")


def has_runtime() -> bool:
    if NODE is None:
        return False
    command = [NODE, "-e", "require.resolve('onnxruntime-node'); require.resolve('jpeg-js')"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow  # a training, an export, and a runtime of 290 MB that npm installs
@pytest.mark.skipif(not has_runtime(), reason="Node, or a library in NODE_PATH, is missing")
def test_node_reproduces_the_golden_answers_from_the_description_alone(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    spec = write_tiny_spec(tmp_path)
    sets = ["preprocess=[{use='center-crop',size=18}]"]
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    export_model(run, tmp_path / "model")
    script = Path(__file__).with_name("golden.test.mjs")
    done = subprocess.run(
        [str(NODE), "--test", "--test-reporter=tap", str(script)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"SIGHTX_MODEL": str(tmp_path / "model")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"^# pass 2$", done.stdout, re.MULTILINE)
