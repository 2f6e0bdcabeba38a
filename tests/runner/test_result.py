"""Failures speak: one line, the right code, the last state as it was."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import sightx
import sightx.plugin
from sightx import NonFiniteError, ResourceError, Run
from sightx.plugin import Step, hookimpl
from sightx.registry.blame import expected_failure

Watching = Callable[[object], dict[str, sightx.plugin.Observer]]

PLUGIN = '''
from sightx.plugin import Loss, hookimpl

class Odd(Loss):
    """Cross-entropy that does something else at the seventh batch of training."""

    name = "test-odd"
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
    return [Odd]
'''


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "test_odd_loss.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def failing(exact: Path, odd: Path, plugin: Path, tmp_path: Path) -> Path:
    text = f'[tool.sightx]\nplugins = ["{plugin}", "{odd}"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    return exact


def only(folder: Path) -> Run:
    (directory,) = folder.iterdir()
    return sightx.open_run(directory)


def test_a_loss_that_is_not_finite(failing: Path, tmp_path: Path) -> None:  # T01
    sets = ["loss={use='test-odd'}"]
    with pytest.raises(NonFiniteError, match=r"epoch 2 step 7 \(rows \d+.*\.png\)") as caught:
        sightx.run(sightx.load(failing, sets), runs=tmp_path / "runs")
    run = only(tmp_path / "runs")
    assert caught.value.exit_code == 6
    assert (run.result["status"], run.result["exit"]) == ("failed", 6)
    assert run.result["error"] == str(caught.value)
    assert run.checkpoints["last"] == "step-00000006"
    assert (run.directory / "error.log").read_text().count("Traceback")


def test_an_evaluation_that_fails_can_be_done_again(
    exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ResourceError(sightx.plugin.Problem("disk-write", "disk full"))

    monkeypatch.setattr(Run, "write_predictions", full)
    with pytest.raises(ResourceError, match="disk full"):
        sightx.run(sightx.load(exact, ["training.epochs=1"]), runs=tmp_path / "runs")
    monkeypatch.undo()
    run = only(tmp_path / "runs")
    assert (run.result["status"], run.result["exit"]) == ("failed", 7)
    sightx.resume(run)
    assert (run.result["status"], run.result["exit"]) == ("finished", 0)
    assert run.predictions_of("test") is not None


def test_memory_that_runs_out(failing: Path, tmp_path: Path) -> None:  # T03
    sets = ["loss={use='test-odd', memory=true}"]
    line = r"out of memory at step 7, batch 4; .*training.micro_batch_size = 2"
    with pytest.raises(ResourceError, match=line) as caught:
        sightx.run(sightx.load(failing, sets), runs=tmp_path / "runs")
    assert caught.value.exit_code == 7
    assert only(tmp_path / "runs").checkpoints["last"] == "step-00000006"


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["loss={use='test-odd', memory=true}", "training.micro_batch_size=2"],
         r"out of memory at step 4, batch 2; training.micro_batch_size = 1 or smaller images"),
        (["loss={use='test-odd', late=true}"],
         r"out of memory validating after step 6, batch 4; training.batch_size = 2 or"),
    ],
)  # fmt: skip
def test_where_memory_ran_out_and_what_needs_less_is_said(
    failing: Path, tmp_path: Path, sets: list[str], line: str
) -> None:
    with pytest.raises(ResourceError, match=line):
        sightx.run(sightx.load(failing, sets), runs=tmp_path / "runs")


def test_a_warning_is_one_line(
    exact: Path, tmp_path: Path, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    class Loud:
        @hookimpl
        def sightx_run_started(self) -> None:
            raise RuntimeError("no\n" * 500)

    experiment = sightx.load(exact, ["training.epochs=1"])
    sightx.run(experiment, observers=watching(Loud()), runs=tmp_path / "runs")
    (line,) = [each for each in caplog.messages if "failed and is dropped" in each]
    assert "\n" not in line
    assert len(line) <= 300
    assert line in (only(tmp_path / "runs").directory / "console.log").read_text().splitlines()


def test_memory_that_runs_out_elsewhere_is_expected_too() -> None:
    failure = expected_failure(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    )
    assert isinstance(failure, ResourceError)
    assert expected_failure(ValueError("x")) is None


def test_figures_that_are_no_numbers_are_null(exact: Path, tmp_path: Path) -> None:  # R06
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
    """Make every image unreadable once training has begun."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        for path in self.folder.rglob("*.png"):
            path.write_bytes(b"")


def test_an_image_that_is_spoilt_after_the_check(
    exact: Path, tmp_path: Path, watching: Watching
) -> None:
    sets = ["execution.cache=off"]
    with pytest.raises(sightx.DataError, match=r"image-changed\] \w+/\w+/\d+\.png") as caught:
        sightx.run(
            sightx.load(exact, sets),
            observers=watching(Spoil(tmp_path / "data")),
            runs=tmp_path / "runs",
        )
    assert caught.value.exit_code == 3
    assert only(tmp_path / "runs").result["exit"] == 3
