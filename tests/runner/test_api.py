from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import sightx
import sightx.plugin
from sightx import Run, RunError
from sightx.runs import directory, lock


def test_continue_begins_then_goes_on_then_is_over(
    exact: Path, tmp_path: Path, stopped: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sightx")
    options = {"runs": tmp_path / "runs", "unfinished": True}
    first = sightx.run(sightx.load(exact, ["training.epochs=1"]), **options)
    assert first.result["status"] == "finished"
    half = stopped(exact, 8)
    assert half.id != first.id
    done = sightx.run(sightx.load(exact, ["execution.threads=2"]), **options)
    assert (done.id, done.result["status"]) == (half.id, "finished")
    assert "execution.threads: 1 then, 2 now" in caplog.text
    caplog.clear()
    before = (done.directory / "result.json").stat().st_mtime_ns
    assert sightx.run(sightx.load(exact), **options).id == half.id
    assert f"{half.id} is finished" in caplog.text
    assert (done.directory / "result.json").stat().st_mtime_ns == before
    assert sightx.run(sightx.load(exact, ["name=other"]), **options).id != half.id


def test_continue_takes_no_run_of_another_name(
    exact: Path, tmp_path: Path, stopped: Callable[..., Run]
) -> None:
    other = stopped(exact, 2, "name=an-exact-one")
    mine = sightx.run(sightx.load(exact), runs=tmp_path / "runs", unfinished=True)
    assert mine.id != other.id
    assert other.result["status"] == "interrupted"


@pytest.mark.slow
def test_a_run_that_another_process_finishes_meanwhile_is_left(
    exact: Path, tmp_path: Path, stopped: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, held = stopped(exact, 2), lock.run_lock

    def late(directory: Path) -> AbstractContextManager[None]:
        command = [sys.executable, "-m", "sightx", "resume", str(directory), "--quiet"]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
        return held(directory)

    monkeypatch.setattr(lock, "held", late)
    assert sightx.resume(run).result["status"] == "finished"
    assert len(run.environment["resumes"]) == 1


def test_a_signal_while_the_last_words_are_written_ends_nothing(
    exact: Path, tmp_path: Path, watching: Callable[..., dict[str, sightx.plugin.Observer]]
) -> None:
    class Impatient:
        @sightx.plugin.hookimpl
        def sightx_run_finished(self) -> None:
            signal.raise_signal(signal.SIGINT)

    run = sightx.run(
        sightx.load(exact, ["training.epochs=1"]),
        observers=watching(Impatient()),
        runs=tmp_path / "runs",
    )
    assert run.result["status"] == "finished"


def test_continue_takes_the_newest_run_alone(exact: Path, tmp_path: Path) -> None:
    ids = [sightx.run(sightx.load(exact), runs=tmp_path / "runs").id for _ in range(2)]
    assert sightx.run(sightx.load(exact), runs=tmp_path / "runs", unfinished=True).id == max(ids)


def test_a_run_in_use_is_not_touched(  # R01
    exact: Path, tmp_path: Path, stopped: Callable[..., Run]
) -> None:
    run = stopped(exact, 2)
    before = (run.result, run.environment)
    with (
        lock.run_lock(run.directory),
        pytest.raises(RunError, match=f"in use by pid {os.getpid()}") as caught,
    ):
        sightx.resume(run)
    assert caught.value.exit_code == 5
    assert (run.result, run.environment) == before


def test_a_run_holds_its_directory_while_it_runs(
    exact: Path, tmp_path: Path, watching: Callable[..., dict[str, sightx.plugin.Observer]]
) -> None:
    class Second:
        said = ""

        @sightx.plugin.hookimpl
        def sightx_epoch_finished(self, run: Run, epoch: sightx.plugin.Epoch) -> None:
            if epoch.number == 1:
                with (
                    pytest.raises(RunError, match="in use") as caught,
                    lock.run_lock(run.directory),
                ):
                    pass
                Second.said = str(caught.value)

    sightx.run(sightx.load(exact), observers=watching(Second()), runs=tmp_path / "runs")
    assert "in use" in Second.said


def test_a_crash_before_the_experiment_is_written_leaves_no_run(  # R09
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(directory.Run, "write_json", crash)
    with pytest.raises(KeyboardInterrupt):
        sightx.run(sightx.load(exact), runs=tmp_path / "runs")
    monkeypatch.undo()
    from sightx.runs.lookup import list_runs

    assert list_runs(tmp_path / "runs") == []
    run = sightx.run(sightx.load(exact), runs=tmp_path / "runs", unfinished=True)
    assert run.result["status"] == "finished"


def test_what_a_run_ran_on_is_recorded(exact: Path, tmp_path: Path) -> None:  # X11
    run = sightx.run(sightx.load(exact, ["training.epochs=1"]), runs=tmp_path / "runs")
    found = run.environment
    assert {"sightx", "torch", "torchvision", "numpy", "pandas", "pillow"} <= set(found["packages"])
    assert found["numerics"]["deterministic"] is False
    assert found["started"][:4].isdigit()
    assert {"python", "platform", "device", "commit", "components"} <= set(found)
