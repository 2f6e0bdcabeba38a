from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console as Terminal

import sightx
from sightx import Run
from sightx.builtin.observers import tables
from sightx.builtin.observers.console import Console, Printer, ProgressPrinter
from sightx.plugin import Epoch, Observer, Step, ValidationBatch


def epoch(number: int = 2, **figures: float) -> Epoch:
    metrics = {"train/loss": 0.5, "train/accuracy": 0.9, "validation/loss": 0.75,
               "validation/accuracy": 0.8, **figures}  # fmt: skip
    return Epoch(number, 3, 10, metrics, 12.34, 1e-4, "validation/accuracy", is_best=True,
                 images_per_second=12345.6, data_wait_fraction=0.034)  # fmt: skip


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> Run:
    return sightx.run(sightx.load(spec), runs=tmp_path / "runs")


def screen(run: Run, terminal: bool = False, width: int = 120) -> tuple[Printer, io.StringIO]:
    out = io.StringIO()
    made = Terminal(file=out, force_terminal=terminal, width=width, highlight=False)
    return Printer(run, made), out


def test_a_row_has_losses_accuracies_their_gap_rate_and_the_mark(run: Run) -> None:
    made, out = screen(run)
    made.sightx_epoch_finished(epoch())
    cells = out.getvalue().split()
    figures = ["2", "0.5000", "0.7500", "90.0%", "80.0%", "+10.0", "0.0001", "12.3s"]
    assert cells == [*figures, "12,346", "3%", "best"]


@pytest.mark.parametrize("monitor", ["validation/accuracy", "validation/qwk"])
def test_eighty_columns_hold_a_row_without_its_pace(run: Run, monitor: str) -> None:
    shown = replace(epoch(), monitor=monitor)
    for width, wide in ((80, False), (100, True)):
        made, out = screen(run, width=width)
        made.print(tables.header(monitor, throughput=wide))
        made.sightx_epoch_finished(shown)
        head, row = out.getvalue().splitlines()
        assert len(head) < len(row) <= width
        assert ("12,346" in row) == ("images/s" in head) == wide


def test_what_is_nan_or_missing_is_a_dash(run: Run) -> None:
    made, out = screen(run)
    only = Epoch(1, 3, 5, {"train/loss": float("nan"), "train/accuracy": 0.5}, 1.0, 0.1,
                 "validation/qwk", is_best=False)  # fmt: skip
    made.sightx_epoch_finished(only)
    assert out.getvalue().split() == ["1", "-", "-", "50.0%", "-", "-", "0.1", "1.0s", "0", "0%"]


def test_the_end_names_class_rows_checkpoint_and_directory(run: Run) -> None:
    made, out = screen(run)
    made.sightx_run_finished(run, run.result)
    text = out.getvalue()
    assert f"test, from the best checkpoint (epoch {run.result['epoch']})" in text
    for name in ("dark", "light"):
        assert any(line.startswith(name) for line in text.splitlines())
    assert str(run.directory) in text


def test_a_failed_run_says_where_it_is(run: Run) -> None:
    made, out = screen(run)
    made.sightx_run_finished(run, {"status": "failed", "seconds": 3.0})
    assert out.getvalue().strip() == f"failed after 3 s: {run.directory}"


def test_a_terminal_gets_a_bar_and_colours_and_the_log_does_not(run: Run) -> None:
    out = io.StringIO()
    live = ProgressPrinter(run, Terminal(file=out, force_terminal=True, width=120, highlight=False))
    experiment = sightx.load(run.directory / "experiment.toml")
    live.sightx_images_prepared(7, 90, is_over=False)
    live._bar.refresh()
    live.sightx_images_prepared(7, 90, is_over=True)
    assert not live._bar.live.is_started  # the cursor is shown again
    live.sightx_run_started(experiment, run)
    for number in (1, 2, 3):
        live.sightx_step_finished(Step(1, number, 3, 8, torch.tensor(0.5), 1e-3))
    live.sightx_validation_batch_finished(ValidationBatch(1, 1200, 3400))
    live._bar.refresh()
    live.sightx_epoch_finished(epoch())
    live.sightx_run_finished(run, run.result)
    assert re.search(r"preprocessing .*image.* 7/90", out.getvalue())
    assert "validation 1,200/3,400" in out.getvalue()
    assert "epoch 1/2" in out.getvalue()
    assert "3/6" in out.getvalue()
    assert "\x1b[" in out.getvalue()
    assert "\x1b" not in (run.directory / "console.log").read_text()


def test_a_path_is_never_broken_over_lines(run: Run) -> None:
    out = io.StringIO()
    made = Printer(run, Terminal(file=out, width=30, highlight=False))
    made.sightx_run_finished(run, {"status": "failed", "seconds": 3.0})
    assert str(run.directory) in out.getvalue()


def test_the_component_builds_a_screen(run: Run) -> None:
    built: Any = Console().build(run)
    assert isinstance(Console(), Observer)
    assert isinstance(built, Printer)
