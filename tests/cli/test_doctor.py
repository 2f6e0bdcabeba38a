"""`sightx doctor`: one screen about this machine."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from support.commands import sightx_main


def test_a_working_installation_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sightx_main("doctor", "--json", "--runs", str(tmp_path / "runs")) == 0
    rows = json.loads(capsys.readouterr().out)
    texts = {row["name"]: row["text"] for row in rows}
    assert importlib.metadata.version("torch") in texts["torch"]
    assert "GFLOP/s" in texts["device"]
    assert f"{tmp_path / 'runs'}, not made yet: can be written and locked" in texts["runs"]
    assert not (tmp_path / "runs").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_work_is_named(  # X10
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    original = importlib.metadata.requires

    def requires(name: str) -> list[str] | None:
        return ["torch (==1.0)"] if name == "torchvision" else original(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    (tmp_path / "letter.txt").write_text("not a cache")
    monkeypatch.setenv("SIGHTX_CACHE", str(tmp_path))
    assert sightx_main("doctor", "--runs", "/proc/nowhere") == 7
    out = capsys.readouterr().out
    assert "torchvision needs torch 1.0" in out.replace(")", "")
    assert "BAD runs          /proc/nowhere" in out
    assert f"BAD pixel cache   {tmp_path} is not a cache: it holds 'letter.txt'" in out
    assert "export SIGHTX_CACHE=" in out


def test_every_distribution_of_an_extra_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = importlib.metadata.version

    def version(name: str) -> str:
        if name in {"pytest-xdist", "aiohttp"}:  # the second is one of fsspec[http]
            raise importlib.metadata.PackageNotFoundError
        return original(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert sightx_main("doctor", "--json", "--runs", str(tmp_path)) == 0
    texts = [row["text"] for row in json.loads(capsys.readouterr().out) if row["name"] == "extra"]
    assert any(text.startswith("shards: ") and "aiohttp" in text for text in texts)
    assert any(text.startswith("dev: ") and "pytest-xdist" in text for text in texts)
