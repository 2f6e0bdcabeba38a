"""The commands over runs, through the command line."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sightx.records.metric_rows import metric_rows
from support.commands import sightx_main
from support.run_folders import read_json, replace_json, write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    write_run(tmp_path / "runs", "a", {"seed": 0}, whole=True)
    write_run(tmp_path / "runs", "b", {"seed": 1, "optimizer.lr": 0.5}, whole=True)
    return ["--runs", str(tmp_path / "runs")]


def test_show_run(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert sightx_main("show-run", "best:validation/loss", *runs) == 0
    out = capsys.readouterr().out
    assert "model simplenet" in out
    assert "lr 0.5, batch size 8, image size 8\n" in out
    assert "test: 12 samples (6, 6); majority class 50.0%" in out
    assert "best of 2 epochs: epoch 1\n" in out
    assert re.search(r"\nvalidation +value +95 % interval +largest class\nloss +\d\.\d{4}", out)
    assert sightx_main("show-run", "20260131-a", "--json", *runs) == 0
    assert json.loads(capsys.readouterr().out)["values"]["seed"] == 0
    assert sightx_main("show-run", "best:test/loss", *runs) == 2
    assert "best:validation/loss" in capsys.readouterr().err


def test_limits_that_coincide_are_not_shown_as_an_interval() -> None:
    result = {"test": {"test/qwk": 1.0}, "intervals": {"test/qwk": [1.0, 1.0]}}
    assert metric_rows(result, "test")[1] == ["qwk", "1.0000", "all draws agree", ""]


def test_show_run_says_why_a_run_failed(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs" / "20260131-a" / "result.json"
    replace_json(path, read_json(path) | {"status": "failed", "error": "error[disk-write] full"})
    assert sightx_main("show-run", "20260131-a", *runs) == 0
    assert re.search(r"^error +error\[disk-write\] full$", capsys.readouterr().out, re.MULTILINE)


def test_diff(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert sightx_main("diff", "20260131-a", "last", "--exit-code", *runs) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["seed", "seed", "0", "1", "changes", "results"]
    assert lines[2].split() == ["spec", "optimizer.lr", "0.001", "0.5", "changes", "results"]
    assert sightx_main("diff", "last", "last", "--exit-code", *runs) == 0
    assert sightx_main("diff", "last", *runs) == 2


def test_compare(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert sightx_main("compare", "20260131-a", "20260131-b", "--metric", "accuracy", *runs) == 0
    out = capsys.readouterr().out
    assert "test: 12 samples" in out
    assert re.search(r"20260131-b +\d\.\d{4} +\+0\.0000 - +no interval +-\n", out)
    assert "no interval: every resample gives the same difference\n" in out
    assert "run several seeds" in out
    assert "this is the test split: choose settings with --split validation" in out
    assert sightx_main("compare", "20260131-a", "20260131-b", "--split", "validation", *runs) == 0
    assert "choose settings" not in capsys.readouterr().out
    assert sightx_main("compare", "20260131-a", "20260131-b", "--json", *runs) == 0
    _, other = json.loads(capsys.readouterr().out)["candidates"]
    assert other["differences"]["accuracy"]["value"] == 0
    assert other["differences"]["accuracy"]["low"] is None


def test_compare_names_repeats_and_seeds(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = write_run(tmp_path / "runs", "c", {"seed": 0}, whole=True)
    environment = read_json(again / "environment.json") | {"id": "experiment of a"}
    replace_json(again / "environment.json", environment)
    assert sightx_main("compare", "20260131-a", "20260131-c", *runs) == 0
    out = capsys.readouterr().out
    assert "20260131-c repeats 20260131-a and does not count" in out
    assert "differ only in the seed" not in out
    write_run(tmp_path / "runs", "d", {"seed": 3}, whole=True)
    assert sightx_main("compare", "20260131-a", "20260131-d", *runs) == 0
    assert "these runs differ only in the seed" in capsys.readouterr().out


def test_a_run_without_a_tracker_is_sent_to_a_named_one(
    runs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("ship", "last", *runs) == 2
    hint = capsys.readouterr().err.rpartition(": ")[2].split("; ")[0]
    assert hint.startswith("sightx ship 20260131-b --to mlflow --server URI")
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    words = hint.strip().replace("URI", "http://127.0.0.1:9").split()[1:]
    assert sightx_main(*words, *runs) == 7
    assert "pip install 'sightx[mlflow]'" in capsys.readouterr().err


def test_the_board_is_exported(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("board", "--export", str(tmp_path / "page"), *runs) == 0
    assert "2 runs; open" in capsys.readouterr().out
    assert "20260131-a" in (tmp_path / "page" / "data.js").read_text()
    page = (tmp_path / "page" / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^":]+)"', page):
        assert (tmp_path / "page" / name).is_file()


def test_the_board_ends_with_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sightx", "board", "--port", "0", "--runs", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url
        with urllib.request.urlopen(url[0], timeout=30) as answer:
            assert b"<title>SightX runs</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_tag_archive_remove_and_import(
    runs: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sightx_main("tag", "20260131-a", "+good", "--note", "why", *runs) == 0
    assert sightx_main("tag", "20260131-a", "+better", "-good", *runs) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["20260131-a: better", "why"]
    archive = tmp_path / "a.zip"
    assert sightx_main("archive", "20260131-a", "-o", str(archive), *runs) == 0
    assert "verified" in capsys.readouterr().out
    assert sightx_main("remove-run", "20260131-a", "--yes", *runs) == 0
    assert sightx_main("show-run", "20260131-a", *runs) == 5
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert sightx_main("remove-run", "20260131-b", *runs) == 2
    assert "no terminal that could answer: add --yes" in capsys.readouterr().err
    assert sightx_main("show-run", "20260131-b", *runs) == 0
    capsys.readouterr()
    assert sightx_main("import-run", str(archive), *runs) == 0
    assert sightx_main("import-run", str(archive), *runs) == 0
    assert "already here, identical" in capsys.readouterr().out
    assert sightx_main("remove-run", "--empty-trash", "--yes", *runs) == 0
    assert sightx_main("remove-run", "--restore", "20260131-a", *runs) == 5
    assert sightx_main("remove-run", *runs) == 2
    (tmp_path / "m.csv").write_text("epoch,validation/accuracy\n1,0.5\n")
    (tmp_path / "m.toml").write_text('name = "other"\n')
    about = ["--about", str(tmp_path / "m.toml")]
    assert sightx_main("import-run", str(tmp_path / "m.csv"), *about, *runs) == 0
