from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sightx import RunError, load, open_run
from sightx.io.files import shell_path
from sightx.plugin import Predictions
from sightx.runs import directory
from sightx.runs.creation import create_run


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> directory.Run:
    return create_run(tmp_path / "runs", load(spec), {"device": "cpu"})


def test_the_stored_experiment_is_the_experiment(run: directory.Run, spec: Path) -> None:
    stored, original = load(run.directory / "experiment.toml"), load(spec)
    assert stored.tables() == original.tables()
    assert stored.id == original.id


def test_metrics_are_valid_json_and_an_incomplete_line_is_ignored(run: directory.Run) -> None:
    run.write_epoch({"epoch": 1, "train/loss": 0.5, "validation/loss": math.nan})
    run.write_epoch({"epoch": 2, "train/loss": math.inf, "validation/loss": 0.25})
    with (run.directory / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "tra')
    frame = run.metrics
    assert list(frame.epoch) == [1, 2]
    assert math.isnan(frame["validation/loss"][0])
    text = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert json.loads(text[0])["nonfinite"] == ["validation/loss"]
    script = "JSON.parse(require('fs').readFileSync(0))"
    try:
        subprocess.run(["node", "-e", script], input=text[1], text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no node here to parse the lines")


def test_predictions_come_back_as_they_were(run: directory.Run) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1], 5)
    predictions = Predictions(
        keys=tuple("abcde"), groups=("g", "g", "", "", ""), labels=np.array([0, 1, 1, -1, 0]),
        outputs=rng.normal(size=(5, 2)), probabilities=probabilities,
        decisions=probabilities.argmax(1), classes=("NA", "light"),
    )  # fmt: skip
    run.write_json("data.json", {"classes": ["NA", "light"], "ordered": False})
    run.write_predictions("test", predictions)
    read = run.predictions_of("test")
    assert read is not None
    assert (read.keys, read.groups) == (predictions.keys, predictions.groups)
    for name in ("labels", "outputs", "probabilities", "decisions"):
        np.testing.assert_array_equal(getattr(read, name), getattr(predictions, name))
    assert run.predictions_of("validation") is None
    with pytest.raises(RunError, match="the run has no predictions of 'validation'"):
        run.predictions("validation")


def test_a_name_of_no_split_and_no_predictions_names_those_that_there_are(
    run: directory.Run,
) -> None:
    run.write_predictions("test@step-00000001", predictions_of(1))
    known = "known: train, validation, test, test@step-00000001"
    for read in (run.predictions_of, run.predictions):
        with pytest.raises(RunError) as caught:
            read("tset")
        line = f"'tset' is neither a split nor predictions of the run; did you mean 'test'? {known}"
        assert str(caught.value).endswith(line)


def predictions_of(number: int) -> Predictions:
    values = np.full((3, 2), float(number))
    return Predictions(
        keys=("a", "b", "c"),
        groups=("a", "b", "c"),
        labels=np.array([0, 1, 0]),
        outputs=values,
        probabilities=values,
        decisions=np.array([0, 0, 0]),
        classes=("x", "y"),
    )


def test_the_names_of_metrics_and_predictions_reach_the_disk(
    run: directory.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = [], os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder, metrics = run.directory.stat().st_ino, run.directory / "metrics.jsonl"
    run.write_epoch({"epoch": 1})
    assert synced == [metrics.stat().st_ino, folder]
    run.write_epoch({"epoch": 2})
    assert synced[2:] == [metrics.stat().st_ino]  # its name was synced before
    run.write_predictions("test", predictions_of(1))
    assert synced[-1] == folder


def test_a_directory_that_is_not_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        open_run(tmp_path)


def test_a_missing_checkpoint_is_an_error_with_the_way_out(run: directory.Run) -> None:
    command = re.escape(f"sightx resume {shell_path(run.directory)}")
    with pytest.raises(RunError, match=f"the run has no checkpoint; {command}"):
        run.checkpoint()
    with pytest.raises(RunError, match="no checkpoint 'x'; the run has: none"):
        run.checkpoint("x")


def test_the_preferred_checkpoint_is_the_first_recorded_name_that_exists(
    run: directory.Run,
) -> None:
    folder = run.directory / "checkpoints"
    folder.mkdir()
    (folder / "names.json").write_text('{"best": "step-00000001", "last": "step-00000002"}')
    assert run.preferred_checkpoint == "last"  # nothing is recorded
    run.write_json("environment.json", {"preferred_checkpoints": ["best-by-qwk", "best", "last"]})
    assert run.preferred_checkpoint == "best"
    assert run.checkpoint() == folder / "step-00000001"
    assert run.checkpoint("last") == folder / "step-00000002"


def test_a_null_run_reads_and_writes_nothing(run: directory.Run) -> None:
    run.write_epoch({"epoch": 1})
    before = {path: path.read_bytes() for path in run.directory.iterdir()}
    null = directory.NullRun(run.directory, {"status": "finished"})
    null.write_epoch({"epoch": 2})
    null.write_json("result.json", {"status": "failed"})
    null.write_predictions("test", predictions_of(1))
    null.truncate_metrics(0)
    with null.remove_result():
        pass
    null.log("error.log", "an error")
    assert {path: path.read_bytes() for path in run.directory.iterdir()} == before
    assert list(null.metrics["epoch"]) == [1]
    assert null.result == {"status": "finished"}


def test_a_run_can_be_moved(run: directory.Run, tmp_path: Path) -> None:
    run.write_epoch({"epoch": 1})
    moved = open_run(run.directory.rename(tmp_path / "elsewhere"))
    assert list(moved.metrics.epoch) == [1]
    assert moved.tables["name"] == "little"


def test_a_run_without_a_result_is_running_or_was_killed(run: directory.Run) -> None:
    assert run.status == "killed"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom sightx.runs.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(run.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert (run.status, repr(run)) == ("running", f"<Run {run.id}: running>")
        holder.kill()
    assert run.status == "killed"
    run.write_json("result.json", {"status": "finished"})
    assert run.status == "finished"
    (run.directory / "result.json").write_text("{")
    assert run.status == "unknown"
    with pytest.raises(RunError, match=r"bad-run\] is damaged: .*; delete the file; sightx resume"):
        run.result  # noqa: B018


def test_a_split_that_was_changed_is_refused(run: directory.Run) -> None:
    frame = pd.DataFrame({"path": ["a", "b"], "group": "", "label": 0, "split": ["train", "test"]})
    run.write_split(frame, ["0", "1"])
    assert run.samples is not None
    path = run.directory / "split.csv"
    content = path.read_text()
    path.write_text(content.replace("train", "test"))
    with pytest.raises(RunError, match="it has been changed since the run wrote it"):
        run.samples  # noqa: B018
    path.write_text(content)
    assert run.samples is not None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_crash_while_the_split_is_written_leaves_one_that_can_be_read(
    run: directory.Run, faulty: Callable[..., int]
) -> None:
    frames = [
        pd.DataFrame({"path": ["a"], "group": "", "label": 0, "split": split})
        for split in ("train", "test")
    ]
    points, status = 0, -1
    while status:
        run.write_split(frames[0], ["0"])
        points += 1
        status = faulty(lambda: run.write_split(frames[1], ["0"]), points, "die")
        assert run.samples is not None
    assert points > 6


@pytest.mark.parametrize("damage", ["x", "", "[1]"])
def test_damaged_metrics_are_refused(run: directory.Run, damage: str) -> None:
    for epoch in (1, 2, 3):
        run.write_epoch({"epoch": epoch})
    path = run.directory / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], damage, lines[2], ""]))
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"metrics\.jsonl:2: error\[bad-run\] is damaged"):
        run.metrics  # noqa: B018
    path.write_text("\n".join([lines[0], lines[2], ""]))
    with pytest.raises(RunError, match=r"metrics\.jsonl lacks some of the 3 epochs"):
        run.truncate_metrics(3)
    assert before != path.read_bytes() == f"{lines[0]}\n{lines[2]}\n".encode()
