from __future__ import annotations

import math
import sys

import numpy as np
import pluggy
import pytest
from PIL import Image
from pydantic import ValidationError

from sightx.builtin.observers.curves import Curves
from sightx.evaluation.plots import plot_confusion_matrix, plot_curves
from sightx.plugin import Epoch, Predictions
from sightx.runner.observers import RunHooks
from sightx.runs.directory import Run

MONITOR = "validation/qwk"


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.directory.mkdir()
    run.write_json("data.json", {"classes": ["a", "b"], "ordered": True})
    return run


def figures(number, qwk):
    return {
        "epoch": number, "train/loss": 1.0 / number, "validation/loss": 1.2 / number,
        "train/accuracy": 0.5, "validation/accuracy": 0.4, MONITOR: qwk, "lr": 1e-3,
    }  # fmt: skip


def watching(run, observer=None):
    """Return a manager that hears as those of a run do."""
    manager = pluggy.PluginManager("sightx")
    manager.add_hookspecs(RunHooks)
    manager.register((observer or Curves()).build(run), name="curves")
    manager.check_pending()
    return manager.hook


def live(hook, run, number, qwk, best):
    """Let one epoch pass, as the runner does."""
    run.write_epoch(figures(number, qwk))
    metrics = {k: v for k, v in figures(number, qwk).items() if "/" in k}
    epoch = Epoch(number, 3, number * 10, metrics, 0.1, 1e-3, MONITOR, best)
    hook.sightx_epoch_finished(run=run, epoch=epoch)


def predictions(labels, decisions):
    n, half = len(labels), np.full((len(labels), 2), 0.5)
    return Predictions(
        tuple(map(str, range(n))), ("",) * n, np.array(labels), half, half, np.array(decisions),
        ("a", "b"), True,
    )  # fmt: skip


def plots(run):
    return sorted(path.name for path in (run.directory / "plots").glob("*"))


def test_a_finished_run_has_its_pictures(run, tmp_path):
    hook = watching(run)
    for number, qwk, best in [(1, 0.2, True), (2, 0.6, True), (3, 0.5, False)]:
        live(hook, run, number, qwk, best)
    assert plots(run) == []
    run.write_predictions("validation", predictions([0, 1, 1], [0, 1, 0]))
    run.write_predictions("test", predictions([-1, -1], [0, 1]))  # nothing to be judged by
    hook.sightx_run_finished(run=run, result={"status": "finished"})
    assert plots(run) == ["confusion-validation.png", "curves.png"]
    records = [figures(1, 0.2), figures(2, 0.6), figures(3, 0.5)]
    plot_curves(records, tmp_path / "curves.png", monitor=MONITOR, best=1)
    plot_confusion_matrix(
        predictions([0, 1, 1], [0, 1, 0]), tmp_path / "confusion.png", title="validation"
    )
    assert same(run.directory / "plots/curves.png", tmp_path / "curves.png")
    assert same(run.directory / "plots/confusion-validation.png", tmp_path / "confusion.png")


def test_the_confusion_of_validation_is_plotted_every_so_many_epochs(run, tmp_path):
    hook = watching(run, Curves(every=2))
    for number in (1, 2):
        epoch = Epoch(number, 3, number * 10, {}, 0.1, 1e-3, MONITOR, is_best=True)
        given = predictions([0, 1, 1], [0, 1, number % 2])
        hook.sightx_validation_finished(run=run, epoch=epoch, predictions=given)
        assert plots(run) == ["confusion-validation.png"] * (number == 2)
    plot_confusion_matrix(given, tmp_path / "confusion.png", title="validation, epoch 2")
    assert same(run.directory / "plots/confusion-validation.png", tmp_path / "confusion.png")


def same(one, other):
    return one.read_bytes() == other.read_bytes()


def test_a_resumed_run_finds_the_best_epoch_that_it_has_not_heard_of(run, tmp_path):
    run.write_epoch(figures(1, math.nan))
    run.write_epoch(figures(2, 0.9))
    hook = watching(run)
    live(hook, run, 3, 0.5, best=False)
    hook.sightx_run_finished(run=run, result={"status": "finished"})
    records = [figures(1, math.nan), figures(2, 0.9), figures(3, 0.5)]
    plot_curves(records, tmp_path / "curves.png", monitor=MONITOR, best=1)
    assert same(run.directory / "plots/curves.png", tmp_path / "curves.png")


@pytest.mark.parametrize("status", ["failed", "interrupted", "stopped"])
def test_a_run_that_ended_before_its_first_epoch_has_nothing_to_draw(run, status):
    watching(run).sightx_run_finished(run=run, result={"status": status})
    assert plots(run) == []


def test_a_monitored_figure_without_any_value_marks_no_best(run):
    hook = watching(run)
    live(hook, run, 1, math.nan, best=False)
    hook.sightx_run_finished(run=run, result={"status": "failed"})
    with Image.open(run.directory / "plots/curves.png") as image:
        assert image.format == "PNG"


def test_curves_are_drawn_while_training_if_asked_for(run):
    hook = watching(run, Curves(every=2))
    live(hook, run, 1, 0.2, best=True)
    assert plots(run) == []
    live(hook, run, 2, 0.3, best=True)
    assert plots(run) == ["curves.png"]


def test_watching_alone_costs_no_matplotlib(run):
    hidden = {name: module for name, module in sys.modules.items() if "matplotlib" in name}
    for name in hidden:
        del sys.modules[name]
    try:
        live(watching(run), run, 1, 0.2, best=True)
        assert "matplotlib" not in sys.modules
    finally:
        sys.modules.update(hidden)


@pytest.mark.parametrize("every", [-1, 1.0, True])
def test_every_is_a_whole_number_of_epochs(every):
    with pytest.raises(ValidationError):
        Curves(every=every)
