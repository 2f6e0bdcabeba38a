from __future__ import annotations

import json
import math
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sightx import ResourceError, RunError, load, open_run
from sightx.plugin import Predictions
from sightx.runs import directory


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> directory.Run:
    return directory.create_run(tmp_path / "runs", load(spec), {"device": "cpu"})


def test_a_run_is_named_by_time_experiment_and_hash(run: directory.Run, spec: Path) -> None:
    date, time, *name, digest = run.id.split("-")
    assert (len(date), len(time), name) == (8, 6, ["little"])
    assert load(spec).id.startswith(digest)


def test_runs_of_one_second_get_separate_directories(spec: Path, tmp_path: Path) -> None:
    experiment = load(spec)
    with ThreadPoolExecutor(8) as pool:
        runs = pool.map(lambda _: directory.create_run(tmp_path / "r", experiment, {}), range(50))
    assert len({run.id for run in runs}) == 50


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


def test_temporary_directories_of_a_crash_are_removed_after_a_day(
    spec: Path, tmp_path: Path
) -> None:  # R09
    root, day = tmp_path / "runs", 24 * 3600
    start, end = ".making-20260101-000000-little-012345-", "89abcde"
    left = {f"{start}0{end}": 1.1 * day, f"{start}1{end}": 0.5 * day}
    mine = [".making-mine/experiment.toml", f"{start}2{end}/diary.txt", ".making-notes/x"]
    for name in left:
        (root / name / "inputs").mkdir(parents=True)
        (root / name / "spec.toml").touch()
    for name in mine:
        (root / name).parent.mkdir()
        (root / name).write_text("mine")
    for path in root.iterdir():
        os.utime(path, (time.time() - left.get(path.name, 2 * day),) * 2)
    (root / f"{start}3{end}").symlink_to(root / ".making-notes")

    directory.create_run(root, load(spec), {})

    kept = {path.name for path in root.glob(".making-*")}
    assert kept == {f"{start}{number}{end}" for number in (1, 2, 3)} | {
        ".making-mine", ".making-notes"
    }  # fmt: skip
    assert all((root / name).read_text() == "mine" for name in mine)


def test_a_directory_that_is_not_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        open_run(tmp_path)


def test_a_missing_checkpoint_is_an_error_with_the_way_out(run: directory.Run) -> None:
    with pytest.raises(RunError, match=f"the run has no checkpoint; sightx resume {run.id}"):
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
    null.remove_result()
    null.log("error.log", "an error")
    assert {path: path.read_bytes() for path in run.directory.iterdir()} == before
    assert list(null.metrics["epoch"]) == [1]
    assert null.result == {"status": "finished"}


def test_a_folder_that_cannot_be_created_is_exit_7(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError) as caught:
        directory.create_run(tmp_path / "file" / "runs", load(spec), {})
    assert caught.value.exit_code == 7
    assert "\n" not in str(caught.value)


def test_a_run_can_be_moved(run: directory.Run, tmp_path: Path) -> None:
    run.write_epoch({"epoch": 1})
    moved = open_run(run.directory.rename(tmp_path / "elsewhere"))
    assert list(moved.metrics.epoch) == [1]
    assert moved.tables["name"] == "little"
