"""`sightx serve` as a process: its address, its log, its end, and what it refuses to start."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from sightx import Run
from support.commands import sightx_main

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

TOKEN = "a-token-of-enough-characters"
Capture = pytest.CaptureFixture[str]


def test_a_server_answers_until_it_is_stopped(trained: Run, data: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    words = ["serve", str(trained.directory), "--port", "0", "--token-file", str(token)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sightx", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert process.stderr.readline().startswith(f"{trained.id}, step-")
        assert "ready: " in process.stderr.readline()
        image = (data / "test" / "dark" / "0.png").read_bytes()
        headers = {"Content-Type": "image/png", "Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"{url}/v1/predict", image, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer)["class"] == "dark"
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out == ""
    request_line, stop_line = err.splitlines()
    assert " POST /v1/predict 200 ok " in request_line
    assert "SIGTERM" in stop_line
    assert TOKEN not in err
    assert "matplotlib" not in maps


@pytest.mark.parametrize(
    ("words", "token", "code"),
    [
        (["--host", "0.0.0.0"], None, 2),
        (["--host", "192.0.2.1"], None, 2),
        (["--host", "0.0.0.0"], "", 2),
        ([], "short", 2),
        ([], "a token with \x07 and more", 2),
        (["--token-file", "absent"], None, 7),
        (["--host", "192.0.2.1"], TOKEN, 7),
    ],
)
def test_an_open_server_needs_a_token(
    trained: Run, words: list[str], token: str | None, code: int, monkeypatch, capsys: Capture
) -> None:
    monkeypatch.delenv("SIGHTX_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("SIGHTX_TOKEN", token)
    assert sightx_main("serve", str(trained.directory), "--port", "0", *words) == code
    out, err = capsys.readouterr()
    assert out == ""
    expected = "no-token" if code == 2 else "resource" if "absent" in words else "cannot-listen"
    assert f"error[{expected}]" in err


# V13
def test_a_damaged_model_is_never_served(trained: Run, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "runs" / trained.id
    shutil.copytree(trained.directory, run)
    (weights,) = run.glob("checkpoints/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert sightx_main("serve", str(run), "--port", "0") == 5
    assert capsys.readouterr().out == ""
    assert sightx_main("serve", "absent", "--runs", str(tmp_path / "runs")) == 5


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx", "model.pt"])
def test_a_network_is_never_loaded_from_a_file(  # X03
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(pickle.dumps({"weights": 1}))
    assert sightx_main("serve", str(file), "--port", "0") == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"{file}: error[run-name] it is a file; a network is built from a recipe and safetensors, "
        "never loaded; give a run, or the folder that sightx export has written\n"
    )


def test_the_extra_that_is_missing_is_named(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "httptools" else find_spec(name)
    )
    assert sightx_main("serve", str(trained.directory)) == 4
    assert 'pip install "sightx[serve]"' in capsys.readouterr().err
