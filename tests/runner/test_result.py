"""Failures: one line, the right exit code, and the last checkpoint unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import sightx
from sightx import NonFiniteError, ResourceError, Run, SpecError
from sightx.plugin import Problem, Step, hookimpl
from sightx.registry.failures import expected_failure
from support.runs import only_run

PLUGIN = '''
from sightx.plugin import Loss, hookimpl

class Failing(Loss):
    """Cross-entropy that fails at the seventh batch of training, or in evaluation."""

    name = "test-failing"
    memory: bool = False
    late: bool = False

    def build(self, *, class_counts):
        import torch

        memory, late = self.memory, self.late

        class Module(torch.nn.CrossEntropyLoss):
            seen = 0

            def forward(self, outputs, targets):
                self.seen += outputs.requires_grad
                loss = super().forward(outputs, targets)
                if late and not outputs.requires_grad:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
                if self.seen == 7 and outputs.requires_grad:
                    if memory:
                        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
                    return loss * float("nan")
                return loss

        return Module(reduction="none")

@hookimpl
def sightx_components():
    return [Failing]
'''


@pytest.fixture(scope="module")
def failing_loss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failing")
    (folder / "test_failing_loss.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def failing(exact: Path, failing_loss: Path, plugin: Path, tmp_path: Path) -> Path:
    text = f'[tool.sightx]\nplugins = ["{plugin}", "{failing_loss}"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    return exact


def test_a_nonfinite_loss_names_epoch_step_and_rows(failing: Path, tmp_path: Path) -> None:  # T01
    sets = ["loss={use='test-failing'}"]
    with pytest.raises(NonFiniteError, match=r"epoch 2 step 7 \(rows \d+.*\.png\)") as caught:
        sightx.run(sightx.load(failing, sets), runs=tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    assert caught.value.exit_code == 6
    assert (run.result["status"], run.result["exit"]) == ("failed", 6)
    assert run.result["error"] == str(caught.value)
    assert run.checkpoints["last"] == "step-00000006"
    assert (run.directory / "error.log").read_text().count("Traceback")


def test_an_evaluation_that_fails_can_be_resumed(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ResourceError(Problem("disk-write", "disk full"))

    monkeypatch.setattr(Run, "write_predictions", full)
    with pytest.raises(ResourceError, match="disk full"):
        sightx.run(sightx.load(exact, ["training.epochs=1"]), runs=tmp_path / "runs")
    monkeypatch.undo()
    run = only_run(tmp_path / "runs")
    assert (run.result["status"], run.result["exit"]) == ("failed", 7)
    sightx.resume(run)
    assert (run.result["status"], run.result["exit"]) == ("finished", 0)
    assert run.predictions_of("test") is not None


def test_out_of_memory_names_step_and_batch(failing: Path, tmp_path: Path) -> None:  # T03
    sets = ["loss={use='test-failing', memory=true}"]
    line = r"out of memory at step 7, batch 4; .*training.micro_batch_size = 2"
    with pytest.raises(ResourceError, match=line) as caught:
        sightx.run(sightx.load(failing, sets), runs=tmp_path / "runs")
    assert caught.value.exit_code == 7
    assert only_run(tmp_path / "runs").checkpoints["last"] == "step-00000006"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["loss={use='test-failing', memory=true}", "training.micro_batch_size=2"],
         r"out of memory at step 4, batch 2; training.micro_batch_size = 1 or smaller images"),
        (["loss={use='test-failing', late=true}"],
         r"out of memory validating after step 6, batch 4; training.batch_size = 2 or"),
    ],
)  # fmt: skip
def test_out_of_memory_names_the_setting_to_lower(
    failing: Path, tmp_path: Path, sets: list[str], message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        sightx.run(sightx.load(failing, sets), runs=tmp_path / "runs")


def test_a_warning_is_one_line(
    exact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        @hookimpl
        def sightx_run_started(self) -> None:
            raise RuntimeError("no\n" * 500)

    experiment = sightx.load(exact, ["training.epochs=1"])
    sightx.run(experiment, observers=[Failing()], runs=tmp_path / "runs")
    (line,) = [text for text in caplog.messages if "failed and is dropped" in text]
    assert "\n" not in line
    assert len(line) <= 300
    assert line in (only_run(tmp_path / "runs").directory / "console.log").read_text().splitlines()


def test_out_of_memory_outside_of_training_is_an_expected_failure() -> None:
    failure = expected_failure(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    )
    assert isinstance(failure, ResourceError)
    assert expected_failure(ValueError("x")) is None


def test_nonfinite_metrics_are_null(exact: Path, tmp_path: Path) -> None:  # R06
    sets = ["split={use='stratified', validation=0.0, test=0.25}", "training.monitor=train/loss",
            "training.epochs=1"]  # fmt: skip
    run = sightx.run(sightx.load(exact, sets), runs=tmp_path / "runs")
    run.write_epoch({"epoch": 2, "loss": float("nan"), "lr": float("inf")})
    path = run.directory / "metrics.jsonl"
    last = path.read_text().splitlines()[-1]
    assert json.loads(last) == {"epoch": 2, "loss": None, "lr": None,
                                "nonfinite": ["loss", "lr"]}  # fmt: skip
    if node := shutil.which("node"):
        script = "require('fs').readFileSync(process.argv[1], 'utf8').trim().split('\\n')"
        command = [node, "-e", f"{script}.forEach(JSON.parse)", str(path)]
        subprocess.run(command, check=True)


class Spoil:
    """Observer that empties every image once training has begun."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        for path in self.folder.rglob("*.png"):
            path.write_bytes(b"")


def test_an_image_that_changes_after_it_was_checked_is_an_error(
    exact: Path, tmp_path: Path
) -> None:
    experiment, spoil = sightx.load(exact, ["execution.cache=off"]), Spoil(tmp_path / "data")
    with pytest.raises(sightx.DataError, match=r"image-changed\] \w+/\w+/\d+\.png") as caught:
        sightx.run(experiment, observers=[spoil], runs=tmp_path / "runs")
    assert caught.value.exit_code == 3
    assert only_run(tmp_path / "runs").result["exit"] == 3


BATCH_NORM = ["model={use='torchvision', arch='resnet18'}", "training.batch_size=23"]


def test_a_batch_of_one_sample_is_found_before_images_are_read(
    spec: Path, tmp_path: Path, cache_root: Path
) -> None:
    with pytest.raises(SpecError, match=r"cannot-train.* leaves no single sample"):
        sightx.run(sightx.load(spec, BATCH_NORM), runs=tmp_path / "runs")
    result = only_run(tmp_path / "runs").result
    assert (result["status"], result["exit"]) == ("failed", 2)
    assert not list(cache_root.rglob("rows.bin"))


def test_what_a_network_raises_in_training_is_an_error_of_the_model(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check before training, as for a network whose error depends on values."""
    monkeypatch.setattr("sightx.runner.execute.check_batches", lambda *_: None)
    with pytest.raises(SpecError, match="torchvision failed: ValueError: Expected more than 1"):
        sightx.run(sightx.load(spec, BATCH_NORM), runs=tmp_path / "runs")


def test_too_little_memory_of_the_cpu_is_an_expected_failure() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    failure = expected_failure(caught.value)
    assert isinstance(failure, ResourceError)
    assert failure.problems[0].code == "out-of-memory"
