"""The observer starts another process, which tests/trackers/test_mlflow.py follows to a server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import sightx
from support.runs import epochs_of


def test_training_does_not_hear_of_a_tracker(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    runs = tmp_path / "runs"
    tracked = sightx.run(sightx.load(spec, ["observer=[{use='mlflow'}]"]), runs=runs)
    assert "observers" not in tracked.result
    assert epochs_of(tracked) == epochs_of(sightx.run(sightx.load(spec), runs=tmp_path / "plain"))
    log = tracked.directory / "trackers" / "mlflow.log"
    deadline = time.monotonic() + 60
    while not log.read_text():  # that it cannot be imported, or that nothing answers
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "mlflow" in log.read_text() or "127.0.0.1:9" in log.read_text()
