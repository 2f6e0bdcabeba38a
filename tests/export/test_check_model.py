"""Checking an exported model on another machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sightx import RunError
from sightx.export.check_model import check_model
from sightx.inference.model_folder import FileEntry


def test_an_intact_model_passes_all_checks(exported: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(exported, tmp_path / "elsewhere"))
    lines = list(check_model(moved))
    assert [line.partition(":")[0] for line in lines[2:]] == ["torch", "onnx", "model.onnx"]
    assert lines[1].startswith("8 golden images")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("golden/golden.json", b'"probability": 0.', b'"probability": 0.9', "golden probability"),
        ("golden/golden.json", b'"pixels_sha256": "', b'"pixels_sha256": "x', "other pixels"),
        ("recipe.json", b'"size": 16', b'"size": 17', "after preprocessing"),
    ],
)
def test_a_model_with_other_answers_fails(
    exported: Path, tmp_path: Path, name: str, old: bytes, new: bytes, message: str
) -> None:
    copied = Path(shutil.copytree(exported, tmp_path / "copy"))
    content = (copied / name).read_bytes()
    assert old in content
    (copied / name).write_bytes(content.replace(old, new))
    with pytest.raises(RunError, match="differs from its hash"):
        list(check_model(copied))
    manifest = json.loads((copied / "manifest.json").read_bytes())
    entry = FileEntry.of((copied / name).read_bytes())
    manifest["files"][name] = entry.model_dump()
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match=message):
        list(check_model(copied))


def test_what_is_not_an_exported_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="bad-export"):
        list(check_model(tmp_path))
