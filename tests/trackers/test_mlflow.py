"""Runs in a real MLflow server: `make test-extras` installs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sightx
from sightx.io.files import file_sha256
from sightx.run_registry.summary import flatten_settings
from support.commands import sightx_main
from support.runs import StopAt, epochs_of

mlflow = pytest.importorskip("mlflow", reason="make test-extras installs MLflow")
pytest.importorskip("mlflow.server", reason="mlflow-skinny has no server")

# Starting a server takes 10 seconds or more.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """Run a server with SQLite and artifacts over HTTP; it is killed at the end."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1",
               "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: answers(port), 120)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def has_arrived(run: sightx.Run, status: str) -> bool:
    for cursor in (run.directory / "trackers").glob("mlflow-*.json"):
        return bool(json.loads(cursor.read_text())["status"] == status)
    return False


def check_equal(run: sightx.Run, client: Any, folder: Path, epochs: int) -> None:
    """Check that the server has a run exactly once: settings, metrics by step, files."""
    (experiment,) = client.search_experiments(filter_string="name = 'little'")
    matching = f"tags.`sightx.run` = '{run.id}'"
    (remote,) = client.search_runs([experiment.experiment_id], matching)
    settings = flatten_settings(run.environment["experiment"])
    assert remote.data.params == {key: str(value) for key, value in settings.items()}
    rows = epochs_of(run)
    assert len(rows) == epochs
    for key in ("train/loss", "validation/accuracy"):
        points = client.get_metric_history(remote.info.run_id, key)
        assert [(p.step, p.value) for p in points] == [(row["step"], row[key]) for row in rows]
    final = remote.data.metrics["final/test/accuracy"]
    assert final == run.result["test"]["test/accuracy"]
    assert remote.inputs.dataset_inputs[0].dataset.digest == run.data["id"][:36]
    for name in ("result.json", "split.csv", "predictions/test.csv"):
        copy = client.download_artifacts(remote.info.run_id, name, str(folder))
        assert file_sha256(Path(copy)) == file_sha256(run.directory / name)
    assert remote.info.status == "FINISHED"


def test_a_run_arrives_exactly_once_also_after_an_outage_and_a_resume(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, runs = f"http://127.0.0.1:{port}", tmp_path / "runs"
    changes = ["training.epochs=3", f"observer=[{{use='mlflow', server='{address}'}}]"]
    experiment = sightx.load(spec, changes)
    # 1. The server is down for a whole run: the result is that of a run without a tracker.
    run = sightx.run(experiment, runs=runs)
    assert "observers" not in run.result
    plain = sightx.run(sightx.load(spec, ["training.epochs=3"]), runs=tmp_path / "plain")
    assert epochs_of(run) == epochs_of(plain)
    # 2. What has waited arrives, and nothing arrives twice.
    with server(tmp_path / "server", port):
        wait_for(lambda: sightx_main("ship", str(run.directory)) == 0, 60)
        client = mlflow.MlflowClient(address)
        check_equal(run, client, tmp_path, 3)
        assert sightx_main("ship", str(run.directory)) == 0
        check_equal(run, client, tmp_path, 3)
        # 3. A run that is stopped, while the server is up.
        stopped = sightx.run(experiment, observers=[StopAt(4)], runs=runs)
        wait_for(lambda: has_arrived(stopped, "interrupted"), 120)
    # 4. It goes on while the server is killed, and ends.
    resumed = sightx.resume(stopped)
    with server(tmp_path / "server", port):
        wait_for(lambda: has_arrived(resumed, "finished"), 180)
        check_equal(resumed, client, tmp_path, 3)
    capsys.readouterr()
    assert sightx_main("ship", str(resumed.directory), "--server", "http://127.0.0.1:9") == 7
    assert "sends the rest later" in capsys.readouterr().err
