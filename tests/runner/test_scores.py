"""The scores of a run: result.json has an interval and a baseline for each metric."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import sightx
from sightx import Run
from sightx.evaluation.estimates import estimate_metrics
from sightx.plugin import Metric
from sightx.runner.resume import stored_experiment
from sightx.runner.scores import score
from support.models import write_tiny_spec


class Fragile(Metric):
    """A metric that fails for the draws of a bootstrap."""

    name = "fragile"

    def values(self, classes):
        return {"fragile": "max"}

    def compute(self, predictions):
        return {"fragile": 1.0}

    def sums(self, predictions):
        raise ValueError("no sums today")


def test_the_result_has_intervals_baselines_and_the_binary_decision(tmp_path: Path) -> None:
    sets = ["evaluation.positive=['light']"]
    run = sightx.run(sightx.load(write_tiny_spec(tmp_path), sets), runs=tmp_path / "runs")
    result, predictions = run.result, run.predictions_of("test")
    assert predictions is not None
    assert {"binary-auc", "high-sensitivity/specificity"} <= {
        key.partition("/")[2] for key in result["test"]
    }
    names = {key for split in ("validation", "test") for key in result[split]}
    assert set(result["intervals"]) == names - {"validation/loss", "test/loss"}
    assert set(result["baselines"]) == set(result["intervals"])
    metrics = stored_experiment(run).metric
    for name, one in estimate_metrics(predictions, metrics, [12, 12]).items():
        assert result["intervals"][f"test/{name}"] == [one.low, one.high]
    assert result["directions"]["validation/binary-auc"] == "max"


def test_a_metric_that_fails_for_draws_is_a_warning(
    trained: Run, caplog: pytest.LogCaptureFixture
) -> None:
    predictions = trained.predictions_of("test")
    assert predictions is not None
    experiment = stored_experiment(trained).model_copy(update={"metric": (Fragile(),)})
    with caplog.at_level(logging.WARNING):
        scores = score((predictions, 0.5), "test", experiment, None, trained)
    assert scores.values == {"test/loss": 0.5, "test/fragile": 1.0}
    assert scores.estimates == {}
    assert "test has no intervals: " in caplog.text
    assert "no sums today" in caplog.text
