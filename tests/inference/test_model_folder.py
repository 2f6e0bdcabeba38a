"""Reading exported models; tests/export has more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightx import RunError
from sightx.inference.model_folder import (
    FileEntry,
    Manifest,
    is_model_folder,
    read_file,
    read_manifest,
)


def manifest(**files: FileEntry) -> Manifest:
    return Manifest(
        sightx="0.1.0", id="run@step", experiment="", data="", classes=("a",), shape=(3, 4, 4),
        files=files,
    )  # fmt: skip


def test_only_listed_files_with_the_right_hash_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").write_bytes(b"content")
    stored = manifest(a=FileEntry.of(b"content"), c=FileEntry.of(b"content"))
    (tmp_path / "manifest.json").write_text(stored.model_dump_json())
    assert read_manifest(tmp_path) == stored
    assert read_file(tmp_path, stored, "a") == b"content"
    for name in ("b", "c"):
        with pytest.raises(RunError, match="bad-export"):
            read_file(tmp_path, stored, name)
    (tmp_path / "a").write_bytes(b"changed")
    with pytest.raises(RunError, match="differs from its hash"):
        read_file(tmp_path, stored, "a")


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "sightx-model", "format": 2}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_checkpoint_is_not_an_exported_model(tmp_path: Path) -> None:
    assert not is_model_folder(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"model.safetensors": "0"}))
    assert not is_model_folder(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest().model_dump_json())
    assert is_model_folder(tmp_path)
