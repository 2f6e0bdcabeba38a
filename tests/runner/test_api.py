from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import sightx
import sightx.plugin
from sightx import Run, RunError, SpecError
from sightx.plugin import Epoch, RunInfo, Step, hookimpl
from sightx.runs import directory, lock
from support.runs import fingerprint, only_run


def test_unfinished_starts_a_run_then_resumes_it_then_leaves_it(
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


def test_unfinished_does_not_resume_a_run_of_another_name(
    exact: Path, tmp_path: Path, stopped: Callable[..., Run]
) -> None:
    other = stopped(exact, 2, "name=an-exact-one")
    mine = sightx.run(sightx.load(exact), runs=tmp_path / "runs", unfinished=True)
    assert mine.id != other.id
    assert other.result["status"] == "interrupted"


@pytest.mark.slow
def test_a_run_that_another_process_finishes_in_the_meantime_is_left_as_it_is(
    exact: Path, tmp_path: Path, stopped: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, run_lock = stopped(exact, 2), lock.run_lock

    def lock_late(directory: Path) -> AbstractContextManager[None]:
        command = [sys.executable, "-m", "sightx", "resume", str(directory), "--quiet"]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
        return run_lock(directory)

    monkeypatch.setattr(lock, "run_lock", lock_late)
    assert sightx.resume(run).result["status"] == "finished"
    assert len(run.environment["resumes"]) == 1


def test_a_signal_during_the_last_hook_is_ignored(exact: Path, tmp_path: Path) -> None:
    class Impatient:
        @hookimpl
        def sightx_run_finished(self) -> None:
            signal.raise_signal(signal.SIGINT)

    experiment = sightx.load(exact, ["training.epochs=1"])
    run = sightx.run(experiment, observers=[Impatient()], runs=tmp_path / "runs")
    assert run.result["status"] == "finished"


class Interrupt:
    """Observer that sends SIGINT after a step, as Ctrl-C does; and a second one at once."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        if step.step == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


def test_ctrl_c_reaches_the_caller_after_the_state_is_saved(exact: Path, tmp_path: Path) -> None:
    experiment = sightx.load(exact, ["training.epochs=2"])
    whole = sightx.run(experiment, runs=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match=r"sightx\.resume\("):
        sightx.run(experiment, observers=[Interrupt(3)], runs=tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    assert run.checkpoint().name == "step-00000003-running"
    with pytest.raises(KeyboardInterrupt):
        sightx.resume(run, observers=[Interrupt(7)])
    assert fingerprint(sightx.resume(run)) == fingerprint(whole)


def test_a_second_ctrl_c_ends_the_run_at_once(exact: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sightx.run(exact, observers=[Interrupt(7, times=2)], runs=tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    assert (run.result["status"], run.result["exit"]) == ("interrupted", 130)
    assert sightx.resume(run).result["status"] == "finished"


def test_ctrl_c_while_images_are_prepared_reaches_the_caller(exact: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sightx.run(exact, progress=stop, runs=tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    assert run.result["status"] == "interrupted"
    before = run.result
    with pytest.raises(KeyboardInterrupt):
        sightx.resume(run, changes=["execution.cache=off"], progress=stop)
    assert run.result["status"] == before["status"]


def test_unfinished_considers_the_newest_run_only(exact: Path, tmp_path: Path) -> None:
    ids = [sightx.run(sightx.load(exact), runs=tmp_path / "runs").id for _ in range(2)]
    assert sightx.run(sightx.load(exact), runs=tmp_path / "runs", unfinished=True).id == max(ids)


def test_a_run_in_use_is_not_changed(  # R01
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


def test_a_run_locks_its_directory_while_it_runs(exact: Path, tmp_path: Path) -> None:
    class SecondWriter:
        error = ""

        @hookimpl
        def sightx_epoch_finished(self, run: RunInfo, epoch: Epoch) -> None:
            if epoch.number == 1:
                with (
                    pytest.raises(RunError, match="in use") as caught,
                    lock.run_lock(run.directory),
                ):
                    pass
                self.error = str(caught.value)

    second = SecondWriter()
    sightx.run(sightx.load(exact), observers=[second], runs=tmp_path / "runs")
    assert "in use" in second.error


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


def test_the_environment_is_recorded(exact: Path, tmp_path: Path) -> None:  # X11
    run = sightx.run(sightx.load(exact, ["training.epochs=1"]), runs=tmp_path / "runs")
    recorded = run.environment
    packages = {"sightx", "torch", "torchvision", "numpy", "pandas", "pillow"}
    assert packages <= set(recorded["packages"])
    assert recorded["numerics"]["deterministic"] is False
    assert recorded["started"][:4].isdigit()
    assert {"python", "platform", "device", "commit", "components"} <= set(recorded)
    assert recorded["preferred_checkpoints"] == ["best", "last"]


class Epochs:
    """Observer that counts epochs."""

    def __init__(self) -> None:
        self.count = 0

    @hookimpl
    def sightx_epoch_finished(self) -> None:
        self.count += 1


class Factory(sightx.plugin.Observer):
    """An observer component that builds itself."""

    name = "test-factory"

    def build(self, run: RunInfo) -> Epochs:
        BUILT.append(Epochs())
        return BUILT[-1]


BUILT: list[Epochs] = []


def test_a_run_prints_unless_it_is_quiet_or_the_spec_has_switched_the_console_off(
    exact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = ["training.epochs=1"]

    def printed(sets: list[str], **options: Any) -> int:
        sightx.run(sightx.load(exact, sets), runs=tmp_path / "runs", **options)
        return capsys.readouterr().out.count("train loss")

    assert printed(once, observers=[Epochs()]) == 1  # one more observer costs no other
    assert printed(once, observers={"screen": "console"}) == 1
    assert printed(once, quiet=True) == 0
    off = 'observer = [{ use = "console", enabled = false }]'
    exact.write_text(exact.read_text().replace("observer = []", off))
    assert printed(once) == 0


def test_a_program_without_a_log_gets_the_notices_of_the_command(spec: Path) -> None:
    code = (
        'import sightx; experiment = sightx.load("spec.toml", {"optimizer.use": "sgd"})\n'
        "for quiet in (False, False, True):\n"
        '    print("again", file=__import__("sys").stderr)\n'
        "    sightx.run(experiment, quiet=quiet)\n"
    )
    spec.write_text(spec.read_text() + '\n[optimizer]\nuse = "adam"\nlr = 0.1\n')
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=spec.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("train loss") == 2
    loading, first, second, quiet = done.stderr.split("again\n")
    assert "drops lr = 0.1" in loading
    assert "pixels: " in first
    assert "is this experiment on the same data" not in first
    assert "is this experiment on the same data" in second
    assert "is this experiment on the same data" in quiet
    assert "pixels: " not in quiet


def test_observers_are_objects_components_or_names(
    exact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = sightx.load(exact, ["training.epochs=2"])
    one, two = Epochs(), Epochs()
    sightx.run(experiment, observers=[one, two, Factory(), "console"], runs=tmp_path / "runs")
    assert [observer.count for observer in (one, two, BUILT[-1])] == [2, 2, 2]
    assert "validation" in capsys.readouterr().out
    by_name = {"mine": one, "screen": "console", "built": Factory()}
    sightx.run(experiment, observers=by_name, runs=tmp_path / "runs")
    assert (one.count, BUILT[-1].count) == (4, 2)
    assert "validation" in capsys.readouterr().out


def test_an_experiment_in_python_trains_like_its_spec(
    spec: Path, folders: Path, tmp_path: Path
) -> None:
    in_python = sightx.Experiment(
        name="little",
        dataset={"use": "image-folder", "root": folders},
        preprocess=[{"use": "resize", "size": 8}],
        normalize={"use": "imagenet"},
        model={"use": "simplenet", "hidden": [6]},
        training={"epochs": 2, "batch_size": 8},
    )
    from_file = sightx.load(spec)
    assert in_python.id == from_file.id
    runs = [sightx.run(experiment, runs=tmp_path / "runs") for experiment in (in_python, from_file)]
    assert list(runs[0].metrics["train/loss"]) == list(runs[1].metrics["train/loss"])


def test_an_experiment_in_python_is_checked_like_a_spec(
    folders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def experiment(**sections: object) -> sightx.Experiment:
        dataset = {"use": "image-folder", "root": folders}
        resize = [{"use": "resize", "size": 8}]
        return sightx.Experiment(
            name="a", dataset=dataset, model={"use": "simplenet"}, preprocess=resize, **sections
        )

    wrong = experiment(scheduler={"use": "constant", "warmup": 30.0})
    with pytest.raises(SpecError) as caught:
        sightx.run(wrong, runs=tmp_path / "runs")
    assert str(caught.value).startswith("error[long-warmup] scheduler.warmup: ")
    assert not (tmp_path / "runs").exists()
    useless = experiment(stopping={"use": "early", "patience": 5}, training={"epochs": 1})
    sightx.run(useless, runs=tmp_path / "runs")
    assert any(line.startswith("warning[patience-unreached]") for line in caplog.messages)
