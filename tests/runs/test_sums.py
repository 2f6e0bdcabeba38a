"""SHA256SUMS: coreutils reads what we write, and damage is not covered up."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from sightx.errors import RunError
from sightx.runs import sums


def test_coreutils_reads_every_name_and_we_read_them_back(tmp_path: Path) -> None:
    names = ["a.txt", "plots/b c.png", "back\\slash", "line\nbreak", "é.csv"]
    for name in [*names, "about.json", "lock.json", "trackers/x.json", "new/.writing-x"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    sums.write_sums(tmp_path)
    check = ["sha256sum", "--check", "--strict", sums.FILE]
    assert subprocess.run(check, check=False, cwd=tmp_path, capture_output=True).returncode == 0
    assert sums.read_sums(tmp_path) == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in names
    }
    (tmp_path / "a.txt").write_text("changed")
    assert subprocess.run(check, check=False, cwd=tmp_path, capture_output=True).returncode == 1
    sums.update_sums(tmp_path, ["plots"])
    assert subprocess.run(check, check=False, cwd=tmp_path, capture_output=True).returncode == 1
    sums.update_sums(tmp_path, ["a.txt"])
    assert subprocess.run(check, check=False, cwd=tmp_path, capture_output=True).returncode == 0


def test_a_damaged_checkpoint_keeps_the_hash_of_its_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "step-00000001"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("damaged")
    names = ("model.safetensors", "optimizer.safetensors", "state.json", "recipe.json")
    (folder / "manifest.json").write_text(json.dumps(dict.fromkeys(names, "0" * 64)))
    sums.write_sums(tmp_path)
    recorded = sums.read_sums(tmp_path)["checkpoints/step-00000001/model.safetensors"]
    assert recorded == "0" * 64


def test_a_damaged_line_is_an_error(tmp_path: Path) -> None:
    (tmp_path / sums.FILE).write_text("0000  a\n")
    with pytest.raises(RunError, match=r"SHA256SUMS:1: error\[bad-run\]"):
        sums.read_sums(tmp_path)
