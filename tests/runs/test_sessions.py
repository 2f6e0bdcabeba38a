"""Sessions, test scorings and hashes of a real run that is stopped, resumed and evaluated."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import sightx
from sightx.runner.evaluate import evaluate
from sightx.runs import scorings, sessions, sums
from support.runs import StopAt


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> sightx.Run:
    """A run that was stopped after step 2 and resumed."""
    text = spec.read_text() + '[about]\npurpose = "a test"\n'
    spec.write_text(text)
    stopped = sightx.run(spec, observers=[StopAt(2)], runs=tmp_path / "runs")
    assert stopped.status == "interrupted"
    return sightx.resume(stopped.directory)


def test_a_run_records_who_ran_what_on_which_data_and_anybody_can_check_it(
    run: sightx.Run, spec: Path, tmp_path: Path
) -> None:
    environment, result = run.environment, run.result
    started = datetime.fromisoformat(environment["started"])
    assert environment["host"] == socket.gethostname()
    assert environment["user"] == getpass.getuser()
    assert environment["parents"] == []
    assert started.tzinfo is not None
    assert abs(datetime.now(UTC) - started) < timedelta(minutes=10)
    assert result["directions"]["validation/loss"] == "min"
    assert result["directions"]["validation/accuracy"] == "max"

    # An independent computation of a split's id: from the images and the classes.
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()} {label}\n"
        for label, name in enumerate(["dark", "light"])
        for path in (tmp_path / "data" / "test" / name).iterdir()
    ]
    expected = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert run.data["splits"]["test"] == expected

    first, second = sessions.read_sessions(run)
    assert (first["status"], second["status"]) == ("interrupted", "finished")
    assert first["started"] <= first["ended"] <= second["started"] <= second["ended"]

    weights = hashlib.sha256((run.checkpoint() / "model.safetensors").read_bytes()).hexdigest()
    assert result["weights"] == weights
    evaluate(run, "test")
    scored = scorings.read_test_scorings(run)
    assert [scoring["command"] for scoring in scored] == ["run", "evaluate"]
    assert {scoring["rows"] for scoring in scored} == {expected}
    assert {scoring["weights"] for scoring in scored} == {weights}

    check = ["sha256sum", "--check", "--quiet", "--strict", sums.FILE]
    assert subprocess.run(check, check=False, cwd=run.directory).returncode == 0
    assert {"result.json", "sessions.json", "predictions/test.csv"} < set(
        sums.read_sums(run.directory)
    )

    assert run.tables["about"] == {"purpose": "a test"} | dict.fromkeys(
        ("data_source", "limitations", "licence", "contact"), ""
    )
    assert sightx.load(spec, {"about.purpose": "another"}).id == environment["id"]

    child = sightx.load(spec, {"model.weights": f"run:{run.id}", "training.epochs": 1})
    child_run = sightx.run(child, runs=run.directory.parent)
    parents = child_run.environment["parents"]
    assert [(parent["run"], parent["why"]) for parent in parents] == [(run.id, "weights")]


def test_a_session_that_was_killed_ends_with_the_last_sign_of_life(tmp_path: Path) -> None:
    run = sightx.Run(tmp_path)
    sessions.start_session(run)
    (tmp_path / "lock.json").write_text("{}")
    sessions.start_session(run)
    first, second = sessions.read_sessions(run)
    assert (first["status"], second["status"]) == ("killed", "")
    assert datetime.fromisoformat(first["ended"])
    assert json.loads((tmp_path / "sessions.json").read_text())["sessions"] == [first, second]
