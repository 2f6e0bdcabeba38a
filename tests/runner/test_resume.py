"""A run that was stopped anywhere gives the result of the uninterrupted run (C06, C07, T14)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import sightx
from sightx import DataError, PluginError, ResourceError, Run, RunError
from sightx.io import atomic
from sightx.io.signals import Interrupted
from sightx.plugin import Epoch, hookimpl
from sightx.runs.compatibility import IncompatibleResumeError
from support.runs import StopAt, fingerprint

Stopped = Callable[..., Run]
ResumeToTheEnd = Callable[..., Run]

CASES = {
    "constant, adamw": [],
    "step, sgd with momentum": [
        "scheduler={use='step', step_size=2}", "optimizer={use='sgd', lr=0.02, momentum=0.9}"
    ],
    "cosine with warm-up": ["scheduler={use='cosine', warmup=1.5}"],
    "one cycle": ["scheduler.use=one-cycle"],
    "plateau": ["scheduler={use='plateau', patience=0, threshold=0.5}"],
    "early stopping and best": [
        "stopping={use='early', patience=1}", "training.epochs=9", "checkpoint=[{use='best'}]"
    ],
    "micro-batches and clipping": ["training.micro_batch_size=3", "training.clip_grad_norm=0.5"],
    "bf16": ["training.precision=bf16"],
    "weighted loss, balanced sampler": [
        "loss.use=inverse-frequency-cross-entropy", "sampler.use=balanced"
    ],
    "postprocessing": ["postprocess=[{use='temperature'}]"],
    "saved every step": ["execution.save_every_steps=1"],
}  # fmt: skip


QUICK = ("one cycle", "early stopping and best", "bf16")


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_two_stops_in_one_epoch_and_one_between_change_nothing(
    exact: Path, tmp_path: Path, stopped: Stopped, resume_to_the_end: ResumeToTheEnd, case: str
) -> None:
    straight = sightx.run(sightx.load(exact, CASES[case]), runs=tmp_path / "straight")
    run = resume_to_the_end(stopped(exact, 1, *CASES[case]), [3, 6, 7])
    assert [resumed["step"] for resumed in run.environment["resumes"]] == [1, 3, 6, 7]
    assert fingerprint(run) == fingerprint(straight)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["one cycle", "early stopping and best", "bf16"])
def test_a_stop_at_any_step_changes_nothing(
    exact: Path, tmp_path: Path, stopped: Stopped, resume_to_the_end: ResumeToTheEnd, case: str
) -> None:
    straight = sightx.run(sightx.load(exact, CASES[case]), runs=tmp_path / "straight")
    expected, last = fingerprint(straight), int(straight.metrics["step"].max())
    for step in {1, 5, 11, 12, 13, 20, last} & set(range(last + 1)):
        assert fingerprint(resume_to_the_end(stopped(exact, step, *CASES[case]))) == expected, step


def test_other_threads_after_each_stop_change_nothing(  # C07
    exact: Path, tmp_path: Path, stopped: Stopped
) -> None:
    straight = sightx.run(sightx.load(exact), runs=tmp_path / "straight")
    run = stopped(exact, 8, "execution.threads=0")
    sightx.resume(run, changes=["execution.threads=2"], observers=[StopAt(15)])
    sightx.resume(run, changes=["execution.threads=1"])
    assert fingerprint(run) == fingerprint(straight)
    first, second = (resumed["differences"] for resumed in run.environment["resumes"])
    assert "execution.threads: 0 then, 2 now (harmless)" in first
    assert "execution.threads: 2 then, 1 now (harmless)" in second


def test_five_stops_in_one_epoch_change_nothing(  # C07
    exact: Path, tmp_path: Path, stopped: Stopped, resume_to_the_end: ResumeToTheEnd
) -> None:
    straight = sightx.run(sightx.load(exact), runs=tmp_path / "straight")
    run = resume_to_the_end(stopped(exact, 7), [8, 9, 10, 11])
    assert [resumed["step"] for resumed in run.environment["resumes"]] == [7, 8, 9, 10, 11]
    assert fingerprint(run) == fingerprint(straight)


class StopWithTheRule:
    """Observer that sends SIGTERM after the epoch in which the stopping rule has a reason."""

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        if epoch.stop_reason:
            signal.raise_signal(signal.SIGTERM)


EARLY = ["stopping={use='early', patience=1}", "optimizer.lr=1e-12", "training.epochs=9"]


@pytest.mark.parametrize(
    "more",
    [
        [],
        pytest.param(
            ["model={use='resnet50', weights='none', trainable=['layer4', 'head']}",
             "preprocess=[{use='resize', size=64}]", "augment=[]"],
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_stop_after_the_stopping_reason_changes_nothing(
    exact: Path, tmp_path: Path, more: list[str]
) -> None:
    experiment = sightx.load(exact, [*EARLY, *more])
    straight = sightx.run(experiment, runs=tmp_path / "straight")
    run = sightx.run(experiment, observers=[StopWithTheRule()], runs=tmp_path / "runs")
    assert run.result["status"] == "interrupted"
    sightx.resume(run)
    assert run.result["status"] == straight.result["status"] == "stopped"
    assert fingerprint(run) == fingerprint(straight)


def test_a_finished_run_is_left_as_it_is(exact: Path, tmp_path: Path) -> None:  # C17
    run = sightx.run(sightx.load(exact), runs=tmp_path / "runs")
    before = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")}
    assert sightx.resume(run.directory).result["status"] == "finished"
    assert {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")} == before


def test_a_run_without_a_checkpoint_starts_again_in_its_directory(
    exact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = tmp_path / "data" / "train" / "dark" / "0.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:40])
    with pytest.raises(DataError):
        sightx.run(sightx.load(exact), runs=tmp_path / "runs")
    bad.write_bytes(content)
    (directory,) = (tmp_path / "runs").iterdir()
    run = sightx.resume(directory)
    assert "it starts from the beginning, because it failed before its first" in caplog.text
    assert "dark/0.png" in caplog.text
    straight = sightx.run(sightx.load(exact), runs=tmp_path / "straight")
    assert fingerprint(run) == fingerprint(straight)


def test_incomplete_lines_and_epochs_after_the_checkpoint_are_cut(  # R05, C05
    exact: Path, tmp_path: Path, stopped: Stopped, resume_to_the_end: ResumeToTheEnd
) -> None:
    straight = sightx.run(sightx.load(exact), runs=tmp_path / "straight")
    run = stopped(exact, 15)
    newest = max((run.directory / "checkpoints").glob("step-*"))
    (newest / "model.safetensors").write_bytes(b"")  # so that an earlier epoch is resumed
    with (run.directory / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "ste')
    (run.directory / "result.json").unlink()
    assert resume_to_the_end(run).environment["resumes"][0]["epoch"] < 3
    assert list(run.metrics["epoch"]) == [1, 2, 3, 4]
    assert fingerprint(run) == fingerprint(straight)


def test_names_that_had_not_moved_yet_are_moved(exact: Path, stopped: Stopped) -> None:
    run = stopped(exact, 13, "checkpoint=[{use='best', monitor='train/loss'}]")
    names = run.directory / "checkpoints" / "names.json"
    before = json.loads(names.read_text())
    names.write_text("{}")  # as after a power cut between the checkpoint and its names
    sightx.resume(run)
    assert set(run.checkpoints) == set(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.lr=0.5", r"drift\] optimizer.lr: 0.01 then, 0.5 now"),
        ("seed=3", r"drift\] seed: 0 then, 3 now"),
        ("model.weights=imagenet", r"drift\] model.weights: none then, imagenet now"),
        ("training.epochs=1", r"training.epochs: 4 then, 1 now.*8 steps of 6 per epoch are done"),
    ],
)
def test_another_experiment_is_refused_and_nothing_changed(  # C12
    exact: Path, stopped: Stopped, change: str, message: str
) -> None:
    run = stopped(exact, 8)
    before = (run.result, run.environment, run.checkpoints)
    with pytest.raises(IncompatibleResumeError, match=message) as caught:
        sightx.resume(run, changes=[change])
    assert caught.value.exit_code == 5
    assert (run.result, run.environment, run.checkpoints) == before


def test_a_stored_experiment_that_was_edited_is_refused(exact: Path, stopped: Stopped) -> None:
    run = stopped(exact, 2)
    path = run.directory / "experiment.toml"
    path.write_text(path.read_text().replace("lr = 0.01", "lr = 0.02"))
    with pytest.raises(IncompatibleResumeError, match=r"optimizer.lr: 0.01 then, 0.02 now"):
        sightx.resume(run.directory)


@pytest.mark.parametrize("stop", [True, False])
def test_more_epochs_are_the_longer_run(
    exact: Path, tmp_path: Path, stopped: Stopped, stop: bool
) -> None:
    longer = ["training.epochs=6"]
    straight = sightx.run(sightx.load(exact, longer), runs=tmp_path / "straight")
    run = stopped(exact, 8) if stop else sightx.run(sightx.load(exact), runs=tmp_path / "runs")
    sightx.resume(run, changes=longer)
    assert fingerprint(run) == fingerprint(straight)
    assert run.tables["training"]["epochs"] == 6
    assert any("training.epochs" in line for line in run.environment["resumes"][0]["differences"])


@pytest.mark.parametrize("scheduler", ["cosine", "one-cycle"])
def test_more_epochs_are_refused_if_the_learning_rate_depends_on_them(
    exact: Path, stopped: Stopped, scheduler: str
) -> None:
    run = stopped(exact, 8, f"scheduler.use={scheduler}")
    with pytest.raises(
        IncompatibleResumeError, match=f"learning rates of {scheduler} so far depend"
    ):
        sightx.resume(run, changes=["training.epochs=6"])


def test_changed_images_and_labels_are_named(  # D24
    exact: Path, tmp_path: Path, stopped: Stopped, resume_to_the_end: ResumeToTheEnd
) -> None:
    run = stopped(exact, 8)
    folder = tmp_path / "data" / "train"
    for number in (1, 2):
        Image.new("RGB", (8, 8), (200 + number, 200, 200)).save(folder / "dark" / f"{number}.png")
    message = r"fingerprint changed \(2 files: train/dark/1.png, train/dark/2.png\)"
    with pytest.raises(IncompatibleResumeError, match=message) as caught:
        sightx.resume(run)
    assert caught.value.problems[0].code == "data-changed"
    before = run.data["id"]
    assert run.result["status"] == "interrupted"
    resume_to_the_end(run, [10], allow_data_change=True)  # after that, nothing differs any more
    assert "2 files" in " ".join(run.environment["resumes"][0]["differences"])
    assert run.environment["resumes"][1]["differences"] == []
    assert run.data["id"] != before


def test_missing_samples_are_refused_and_new_ones_skipped(
    exact: Path, tmp_path: Path, stopped: Stopped
) -> None:
    run = stopped(exact, 8)
    known = set(pd.read_csv(run.directory / "split.csv")["path"])
    image = tmp_path / "data" / "train" / "dark" / "3.png"
    shutil.copy(image, image.with_name("new.png"))
    with pytest.raises(IncompatibleResumeError, match=r"1 new sample: train/dark/new.png"):
        sightx.resume(run)
    image.unlink()
    with pytest.raises(IncompatibleResumeError, match=r"1 missing sample.*restore the samples"):
        sightx.resume(run, allow_data_change=True)
    shutil.copy(image.with_name("new.png"), image)
    sightx.resume(run, allow_data_change=True)
    assert set(pd.read_csv(run.directory / "split.csv")["path"]) == known
    assert run.data["skipped"] == {"train/dark/new.png": "was added after the run began"}


def test_a_changed_plugin_is_refused(  # P11
    exact: Path, tmp_path: Path, stopped: Stopped, change_origin: Callable[..., None]
) -> None:
    run = stopped(exact, 8)
    change_origin(run, "test-exact-net", sha256="0" * 64)
    with pytest.raises(
        IncompatibleResumeError, match="has changed: its source is different"
    ) as caught:
        sightx.resume(run)
    assert "--allow-plugin-change" in str(caught.value)
    assert sightx.resume(run, allow_plugin_change=True).result["status"] == "finished"
    assert "its source is different" in " ".join(run.environment["resumes"][0]["differences"])


def test_a_plugin_that_is_missing_is_exit_4(exact: Path, tmp_path: Path, stopped: Stopped) -> None:
    run = stopped(exact, 2)
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    with pytest.raises(
        PluginError, match="the run had it from the plugin test_exact_net"
    ) as caught:
        sightx.resume(run)
    assert caught.value.exit_code == 4


def test_differences_that_change_the_last_digits_are_logged(
    exact: Path, stopped: Stopped, caplog: pytest.LogCaptureFixture
) -> None:  # X11
    run = stopped(exact, 8)
    environment = run.environment
    environment["packages"]["torch"] = "1.0"
    run.write_json("environment.json", environment)
    sightx.resume(run, changes=["execution.deterministic=true"])
    assert "packages.torch: 1.0 then, " in caplog.text
    assert "execution.deterministic: False then, True now (changes results)" in caplog.text
    assert run.environment["packages"]["torch"] != "1.0"


def test_a_run_that_was_moved_can_be_resumed(
    exact: Path, tmp_path: Path, stopped: Stopped
) -> None:  # R10
    run = stopped(exact, 8)
    moved = Run(shutil.move(run.directory, tmp_path / "elsewhere"))
    straight = sightx.run(sightx.load(exact), runs=tmp_path / "straight")
    assert fingerprint(sightx.resume(moved)) == fingerprint(straight)


def test_a_run_whose_checkpoints_are_all_damaged_is_exit_5(exact: Path, stopped: Stopped) -> None:
    run = stopped(exact, 2)
    for path in run.directory.glob("checkpoints/*/manifest.json"):
        path.write_text("{}")
    with pytest.raises(RunError, match="bad-checkpoint"):
        sightx.resume(run)
    assert run.result["status"] == "interrupted"


def test_missing_samples_are_refused_before_any_image_is_read(
    exact: Path, tmp_path: Path, stopped: Stopped
) -> None:
    run = stopped(exact, 8)
    for path in (tmp_path / "data").rglob("*.png"):
        path.rename(path.with_name(f"new-{path.name}"))
    with pytest.raises(
        IncompatibleResumeError, match=r"\d\d missing samples: .*restore the samples"
    ):
        sightx.resume(run, allow_data_change=True)


def test_a_run_without_its_split_cannot_be_resumed(exact: Path, stopped: Stopped) -> None:
    run = stopped(exact, 8)
    (run.directory / "split.csv").unlink()
    with pytest.raises(RunError, match=r"split\.csv is missing"):
        sightx.resume(run)
    assert run.result["status"] == "interrupted"


def test_a_finished_run_that_cannot_be_resumed_stays_finished(exact: Path, tmp_path: Path) -> None:
    run = sightx.run(sightx.load(exact, ["training.epochs=1"]), runs=tmp_path / "runs")
    before = {path: path.read_bytes() for path in run.directory.glob("*.*")}
    (tmp_path / "data" / "train" / "dark" / "0.png").write_bytes(b"")
    with pytest.raises(DataError):
        sightx.resume(run, changes=["training.epochs=2"])
    after = {path: path.read_bytes() for path in run.directory.glob("*.*")}
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= {"lock.json", "bad-images.csv"}


def test_a_signal_before_a_finished_run_continues_leaves_it_finished(
    exact: Path, tmp_path: Path
) -> None:
    run = sightx.run(sightx.load(exact, ["training.epochs=1"]), runs=tmp_path / "runs")
    before = run.result

    def stop(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        sightx.resume(run, changes=["training.epochs=2", "execution.cache=off"], progress=stop)
    assert run.result == before


def test_a_disk_that_is_full_keeps_the_result_of_a_finished_run(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ["training.epochs=1", "scheduler.use=constant"]
    run = sightx.run(sightx.load(exact, sets), runs=tmp_path / "runs")
    before = {path: path.read_bytes() for path in run.directory.rglob("*.json*")}
    for stage in ("require_free_space", "replace"):

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(atomic, stage, full)
            with pytest.raises((OSError, ResourceError)):
                sightx.resume(run, changes=["training.epochs=2"])
        del before[run.directory / "lock.json"]
        after = {path: path.read_bytes() for path in before}
        assert after == before
        before[run.directory / "lock.json"] = b""
    sightx.resume(run, changes=["training.epochs=2"])
    assert (run.status, len(run.metrics)) == ("finished", 2)


def test_a_damaged_old_run_does_not_block_others(
    exact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = sightx.load(exact, ["training.epochs=1"])
    run = sightx.run(experiment, runs=tmp_path / "runs")
    names = ("environment.json", "experiment.toml", "data.json")
    for number, name in enumerate(names):
        copy = tmp_path / "runs" / f"{run.id}-{number + 2}"
        shutil.copytree(run.directory, copy)
        (copy / name).write_text("{")

    again = sightx.run(experiment, runs=tmp_path / "runs", unfinished=True)

    assert again.id == run.id
    assert all(f"{run.id}-{number} is not looked at" in caplog.text for number in (2, 3, 4))
