from __future__ import annotations

from pathlib import Path

import pytest

import sightx
from sightx.plugin import History
from sightx.runner import table
from sightx.runner.final_warnings import final_warnings

ACCURACY, LOSS = "validation/accuracy", "validation/loss"
ALL_TIED = "epochs 1, 2 and 3 have the same validation/accuracy 0.9333: the earliest is kept"


def tied(spec: Path, accuracies: list[float], losses: list[float], *sets: str) -> list[str]:
    experiment = sightx.load(spec, [f"training.monitor={ACCURACY}", *sets])
    epochs = tuple({ACCURACY: a, LOSS: b} for a, b in zip(accuracies, losses, strict=True))
    history = History(ACCURACY, {ACCURACY: "max", LOSS: "min"}, epochs)
    name = experiment.checkpoint[0].best_name or "last"
    samples = table(experiment)
    warnings = final_warnings(experiment, experiment.context, samples, [4, 4], history, name)
    return [warning for warning in warnings if warning.startswith("epochs")]


def test_epochs_that_tie_for_the_best_checkpoint_are_named(spec: Path) -> None:
    same = [0.93333] * 3
    way_out = "; monitor validation/loss to tell them apart"
    assert tied(spec, same, [0.3, 0.2, 0.1]) == [ALL_TIED + way_out]
    assert tied(spec, same, [0.1, 0.1, 0.2]) == [ALL_TIED]  # the loss does not separate them
    assert tied(spec, [0.5, 0.9, 0.8], [0.3, 0.2, 0.1]) == []
    (many,) = tied(spec, [0.5] * 9, [0.1] * 9)
    assert many.startswith("epochs 1, 2, 3, 4, 5 and 4 more have the same")


def test_the_metric_is_that_of_the_checkpoint_policy(spec: Path) -> None:
    monitors_loss = f"checkpoint=[{{use='best', monitor='{LOSS}'}}]"
    assert tied(spec, [0.5, 0.5], [0.3, 0.2], monitors_loss) == []
    (warning,) = tied(spec, [0.5, 0.6], [0.3, 0.3], monitors_loss)
    assert warning == "epochs 1 and 2 have the same validation/loss 0.3000: the earliest is kept"
    assert tied(spec, [0.5, 0.5], [0.3, 0.2], "checkpoint=[{use='last'}]") == []


def test_the_end_of_a_run_has_the_warning(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["optimizer.lr=1e-12", f"training.monitor={ACCURACY}"]  # no epoch learns anything
    run = sightx.run(sightx.load(spec, sets), observers=["console"], runs=tmp_path / "runs")
    (warning,) = (text for text in run.result["warnings"] if text.startswith("epochs"))
    assert f"the same {ACCURACY}" in warning
    assert run.result["epoch"] == 1
    assert f"warning: {warning}" in capsys.readouterr().out
