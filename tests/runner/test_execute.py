from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score

import sightx
from sightx import DataError, Experiment, NonFiniteError, Run, SpecError
from sightx.plugin import Checkpoint, Epoch, RunInfo, Step, hookimpl
from support.runs import epochs_of, only_run


class Recorder:
    """Observer that remembers every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @hookimpl
    def sightx_run_started(self, experiment: Experiment, run: RunInfo) -> None:
        assert run.data["samples"] == 48
        self.calls.append("run started")

    @hookimpl
    def sightx_epoch_started(self, epoch: int) -> None:
        self.calls.append(f"epoch {epoch} started")

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        self.calls.append(f"step {step.step}")

    @hookimpl
    def sightx_epoch_finished(self, run: RunInfo, epoch: Epoch) -> None:
        assert len(run.metrics) == epoch.number  # they are on disk already
        self.calls.append(f"epoch {epoch.number} finished")

    @hookimpl
    def sightx_checkpoint_written(self, run: RunInfo, checkpoint: str) -> None:
        assert (run.directory / "checkpoints" / checkpoint / "manifest.json").is_file()
        self.calls.append(checkpoint)

    @hookimpl
    def sightx_run_finished(self, result: dict[str, Any]) -> None:
        self.calls.append(result["status"])


@pytest.fixture
def finished(spec: Path, tmp_path: Path) -> Run:
    return sightx.run(sightx.load(spec), runs=tmp_path / "runs")


def test_a_run_writes_every_file(finished: Run, spec: Path) -> None:
    files = {str(p.relative_to(finished.directory)) for p in finished.directory.rglob("*")}
    assert {
        "spec.toml", "experiment.toml", "environment.json", "data.json", "split.csv",
        "metrics.jsonl", "result.json", "checkpoints/names.json", "plots/curves.png",
        "checkpoints/step-00000006/model.safetensors", "predictions/validation.csv",
        "predictions/test.csv", "predictions/test.outputs.npy",
        "predictions/test.probabilities.npy", "plots/confusion-test.png",
    } <= files  # fmt: skip
    assert (finished.directory / "spec.toml").read_text() == spec.read_text()
    assert finished.result["status"] == "finished"
    assert finished.data["counts"]["train"] == [12, 12]


def test_metrics_can_be_computed_again_from_the_predictions(finished: Run) -> None:
    table = finished.predictions("test")
    result = finished.result["test"]
    assert result["test/accuracy"] == accuracy_score(table.label, table.prediction)
    assert result["test/balanced-accuracy"] == balanced_accuracy_score(
        table.label, table.prediction
    )
    scored = finished.predictions_of("test")
    assert scored is not None
    rows = np.arange(len(scored))
    losses = -np.log(scored.probabilities[rows, scored.labels])
    assert result["test/loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_the_test_split_is_scored_with_the_best_checkpoint(finished: Run) -> None:
    assert finished.result["checkpoint"] == "best"
    best = finished.metrics["validation/balanced-accuracy"].idxmax() + 1
    assert finished.result["epoch"] == best
    at_best = finished.metrics["validation/loss"][best - 1]
    assert finished.result["validation"]["validation/loss"] == pytest.approx(at_best, rel=1e-6)


def test_the_same_spec_twice_is_the_same_to_the_bit(spec: Path, tmp_path: Path) -> None:
    runs = [
        sightx.run(sightx.load(spec, [f"execution.threads={threads}"]), runs=tmp_path / "runs")
        for threads in (1, 2)
    ]
    assert runs[0].id != runs[1].id
    assert epochs_of(runs[0]) == epochs_of(runs[1])
    weights = [(run.checkpoint("last") / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert runs[0].data["id"] == runs[1].data["id"]


def test_observers_are_called_in_order(spec: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    sightx.run(sightx.load(spec), observers=[recorder], runs=tmp_path / "runs")
    saved = ["step-00000003", "step-00000006"]
    assert [call for call in recorder.calls if call not in saved] == [
        "run started",
        "epoch 1 started", "step 1", "step 2", "step 3", "epoch 1 finished",
        "epoch 2 started", "step 4", "step 5", "step 6", "epoch 2 finished",
        "finished",
    ]  # fmt: skip
    # A checkpoint is safe some time after its epoch, and before the run is finished.
    places = [recorder.calls.index(name) for name in saved]
    assert recorder.calls.index("epoch 1 finished") < places[0] < places[1]
    assert recorder.calls.index("epoch 2 finished") < places[1]


class Failing:
    @hookimpl
    def sightx_epoch_finished(self) -> None:
        raise RuntimeError("no connection")


def test_a_failing_observer_is_dropped_and_the_run_goes_on(spec: Path, tmp_path: Path) -> None:
    run = sightx.run(sightx.load(spec), observers=[Failing()], runs=tmp_path / "runs")
    assert run.result["status"] == "finished"
    log = (run.directory / "console.log").read_text()
    assert log.count("failed and is dropped: RuntimeError: no connection") == 1


def test_a_bad_image_ends_the_run_before_its_first_step(
    spec: Path, folders: Path, tmp_path: Path
) -> None:
    bad = folders / "train" / "dark" / "0.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match=r"1 of 48 images.*train/dark/0.png \(truncated\)"):
        sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    (directory,) = (tmp_path / "runs").iterdir()
    run = sightx.open_run(directory)
    assert run.result["status"] == "failed"
    assert "0.png" in run.result["error"]
    assert not run.checkpoints
    assert "Traceback" in (directory / "error.log").read_text()
    listed = pd.read_csv(directory / "bad-images.csv")
    assert list(listed.path) == ["train/dark/0.png"]
    assert bad.is_file()


def test_the_list_of_bad_images_can_be_excluded(spec: Path, folders: Path, tmp_path: Path) -> None:
    (folders / "train" / "dark" / "0.png").write_bytes(b"<html>")
    with pytest.raises(DataError):
        sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    (directory,) = (tmp_path / "runs").iterdir()
    bad_images = directory / "bad-images.csv"
    run = sightx.run(sightx.load(spec, [f"dataset.exclude={bad_images}"]), runs=tmp_path / "runs")
    assert run.data["skipped"] == {"train/dark/0.png": "not an image"}
    assert run.data["counts"]["train"] == [11, 12]


def test_without_a_best_checkpoint_the_last_weights_count(spec: Path, tmp_path: Path) -> None:
    sets = [
        "split={use='stratified', validation=0.0, test=0.25}",
        "training.monitor=train/loss",
        "checkpoint=[{use='last'}]",
    ]
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    assert (run.result["checkpoint"], run.result["epoch"]) == ("last", 2)
    assert "validation" not in run.result
    assert run.result["test"]["test/accuracy"] >= 0


def test_on_request_the_test_split_is_not_scored(spec: Path, tmp_path: Path) -> None:
    run = sightx.run(sightx.load(spec, ["evaluation.test=on-request"]), runs=tmp_path / "runs")
    assert "test" not in run.result
    assert run.predictions_of("test") is None


def test_a_nonfinite_loss_is_exit_6(spec: Path, tmp_path: Path) -> None:
    sets = ["optimizer.use=sgd", "optimizer.lr=1e30", "optimizer.momentum=0.9", "training.epochs=9"]
    with pytest.raises(NonFiniteError, match="step") as caught:
        sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    assert caught.value.exit_code == 6
    assert only_run(tmp_path / "runs").result["status"] == "failed"


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_run_can_start_with_the_weights_of_a_file(
    finished: Run, spec: Path, tmp_path: Path, suffix: str
) -> None:
    path = finished.checkpoint() / "model.safetensors"
    if suffix == "pt":
        torch.save(load_file(path), tmp_path / "w.pt")
        path = tmp_path / "w.pt"
    run = sightx.run(
        sightx.load(spec, [f"model.weights={path}", "training.epochs=1", "optimizer.lr=1e-12"]),
        runs=tmp_path / "runs",
    )
    after = load_file(run.checkpoint() / "model.safetensors")
    for name, weight in load_file(finished.checkpoint() / "model.safetensors").items():
        torch.testing.assert_close(after[name], weight)


def test_a_run_can_start_with_the_weights_of_a_run(
    finished: Run, spec: Path, tmp_path: Path
) -> None:
    sets = [f"model.weights=run:{finished.id}", "training.epochs=1", "optimizer.lr=1e-12"]
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    before, after = (load_file(r.checkpoint() / "model.safetensors") for r in (finished, run))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_saves(
    spec: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [
        sys.executable, "-m", "sightx", "run", str(spec), "--runs", str(tmp_path / "runs"),
        "--set", "training.epochs=100000",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.strip().startswith("2 "):  # the second epoch is over
                os.kill(process.pid, number)
                break
        process.stdout.read()
        assert process.wait() == 128 + number
    run = only_run(tmp_path / "runs")
    assert run.result["status"] == "interrupted"
    assert run.checkpoint("last").is_dir()


def test_a_chain_without_a_size_is_an_error_before_anything_is_read(
    spec: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="may have different sizes"):
        sightx.run(sightx.load(spec, ["preprocess=[{use='grayscale'}]"]), runs=tmp_path / "runs")


def test_a_run_in_a_thread_leaves_signals_alone(spec: Path, tmp_path: Path, folders: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(sightx.run, sightx.load(spec), runs=tmp_path / "runs").result()
    assert run.result["status"] == "finished"


def test_predictions_of_single_files_are_those_of_the_run(finished: Run, folders: Path) -> None:
    predictor = sightx.Predictor.load(finished.directory, "cpu")
    table = finished.predictions("test")
    decisions = [predictor.predict(folders / path).class_name for path in table.path]
    assert decisions == list(table.prediction)


def test_sixteen_bit_images_are_decoded_alike_in_training_and_prediction(
    spec: Path, folders: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    dark = np.full((8, 8), 12000, np.uint16)
    Image.fromarray(dark).save(folders / "train" / "dark" / "deep.png")
    run = sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    assert run.data["counts"]["train"] == [13, 12]
    predictor = sightx.Predictor.load(run.directory, "cpu")
    assert predictor.predict(folders / "train" / "dark" / "deep.png").class_name == "dark"


def test_the_epoch_of_the_result_is_that_of_the_weights(spec: Path, tmp_path: Path) -> None:
    sets = ["training.epochs=5", "checkpoint=[{use='best', monitor='train/loss'}]"]
    recorder = BestEpochs()
    run = sightx.run(sightx.load(spec, sets), observers=[recorder], runs=tmp_path / "runs")
    best = int(run.metrics["train/loss"].idxmin()) + 1
    assert run.result["epoch"] == best
    assert recorder.best[-1] == best


class BestEpochs:
    """Observer that remembers which epochs were called the best."""

    def __init__(self) -> None:
        self.best: list[int] = []

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        self.best += [epoch.number] if epoch.is_best else []


def test_nonfinite_weights_after_the_last_step_are_exit_6(spec: Path, tmp_path: Path) -> None:
    sets = ["optimizer={use='sgd', lr=1e38}", "training.batch_size=32", "training.epochs=1"]
    with pytest.raises(NonFiniteError, match=r"non-finite .* after step 1"):
        sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    assert not only_run(tmp_path / "runs").checkpoints


def test_a_run_can_start_with_the_weights_of_the_last_run(finished: Run, spec: Path) -> None:
    sets = ["model.weights=run:last", "training.epochs=1"]
    run = sightx.run(sightx.load(spec, sets), runs=finished.directory.parent)
    assert finished.id in run.environment["weights"]


def test_missing_weights_are_an_error_before_any_image_is_read(
    spec: Path, folders: Path, tmp_path: Path
) -> None:
    (folders / "train" / "dark" / "0.png").write_bytes(b"")
    sets = [f"model.weights={tmp_path / 'gone.pt'}"]
    with pytest.raises(sightx.ResourceError, match=r"gone\.pt"):
        sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")


def test_a_run_restores_the_global_state_of_torch(spec: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = (signal.getsignal(signal.SIGINT), torch.get_num_threads())
    run = sightx.run(sightx.load(spec, ["execution.deterministic=true"]), runs=tmp_path / "runs")
    sightx.Predictor.load(run.directory, "cpu")
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert (signal.getsignal(signal.SIGINT), torch.get_num_threads()) == before


def test_runs_in_threads_take_turns_and_give_the_same_result(
    finished: Run, spec: Path, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    experiment = sightx.load(spec)
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: sightx.run(experiment, runs=tmp_path / "r"), range(3)))
    expected = (finished.checkpoint("last") / "model.safetensors").read_bytes()
    for run in runs:
        assert (run.checkpoint("last") / "model.safetensors").read_bytes() == expected


def test_an_experiment_is_pickled_without_its_context(spec: Path) -> None:
    import copyreg  # noqa: F401
    from multiprocessing.reduction import ForkingPickler

    experiment = sightx.load(spec)
    copy = ForkingPickler.loads(bytes(ForkingPickler.dumps(experiment)))
    assert copy == experiment
    assert copy.context.path is None


def test_a_signal_while_images_are_prepared_is_recorded(
    folders: Path, spec: Path, tmp_path: Path
) -> None:
    script = f"""
import signal, sys, sightx
def progress(done, of):
    if done == 5:
        signal.raise_signal(signal.SIGTERM)
run = sightx.run(sightx.load({str(spec)!r}), runs=__import__("pathlib").Path(sys.argv[1]),
                 progress=progress, quiet=True)
print(run.result["status"], run.result["signal"])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["interrupted", str(int(signal.SIGTERM))]


def test_an_interrupted_run_predicts_before_postprocessing_is_fitted(
    spec: Path, folders: Path, tmp_path: Path
) -> None:
    class Stop:
        @hookimpl
        def sightx_step_finished(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        sightx.run(
            sightx.load(spec, ["postprocess=[{use='temperature'}]"]),
            observers=[Stop()],
            runs=tmp_path / "runs",
        )
    run = only_run(tmp_path / "runs")
    assert f"sightx.resume({str(run.directory)!r})" in str(caught.value)
    assert run.result["status"] == "interrupted"
    assert run.checkpoint().name == "step-00000001-running"
    predictor = sightx.Predictor.load(run.directory, "cpu")
    assert predictor.predict(folders / "test" / "dark" / "0.png").class_name in ("dark", "light")


class BestByLoss(Checkpoint):
    """Keep the state with the lowest training loss."""

    name = "test-best-by-loss"
    best_name = "best-by-loss"

    def keep(self, history):
        series = history.series("train/loss")
        return {self.best_name} if series.best == len(series.values) - 1 else set()


@pytest.mark.parametrize("built_in_first", [True, False])
def test_the_first_policy_that_looks_for_the_best_state_is_used(
    spec: Path, tmp_path: Path, folders: Path, built_in_first: bool
) -> None:
    loaded = sightx.load(spec, ["training.epochs=4", "optimizer.lr=0.05"])
    last = [policy for policy in loaded.checkpoint if policy.name == "last"]
    best = [policy for policy in loaded.checkpoint if policy.name == "best"]
    policies = [*best, BestByLoss()] if built_in_first else [BestByLoss(), *best]
    experiment = loaded.model_copy(update={"checkpoint": (*policies, *last)})
    recorder = BestEpochs()
    run = sightx.run(
        experiment.with_context(loaded.context), observers=[recorder], runs=tmp_path / "runs"
    )
    name = "best" if built_in_first else "best-by-loss"
    assert set(run.checkpoints) == {"best", "best-by-loss", "last"}
    assert run.result["checkpoint"] == run.preferred_checkpoint == name
    assert run.checkpoint() == run.checkpoint(name)
    assert run.result["epoch"] == recorder.best[-1]
    if not built_in_first:
        assert run.result["epoch"] == int(run.metrics["train/loss"].idxmin()) + 1
    predictor = sightx.Predictor.load(run.directory, "cpu")
    weights = load_file(run.checkpoint(name) / "model.safetensors")
    for key, weight in predictor.module.state_dict().items():
        assert torch.equal(weight, weights[key])


def test_every_run_has_a_last_checkpoint(spec: Path, tmp_path: Path) -> None:
    loaded = sightx.load(spec)
    experiment = loaded.model_copy(update={"checkpoint": ()}).with_context(loaded.context)
    run = sightx.run(experiment, runs=tmp_path / "runs")
    assert run.checkpoints == {"last": "step-00000006"}
    assert run.result["checkpoint"] == "last"
