"""The scores of a run: result.json has an interval and a baseline for each metric."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest

import sightx
from sightx import Run
from sightx.evaluation.estimates import estimate_metrics
from sightx.plugin import Metric
from sightx.records.metric_rows import metric_rows
from sightx.runner.resume import stored_experiment
from sightx.runner.scores import score
from support.commands import sightx_main
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


def test_the_result_has_intervals_baselines_and_the_binary_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["evaluation.positive=['light']", "postprocess=[{use='temperature'}]"]
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

    # `sightx evaluate` computes the same, with the usual metrics, calibration and net benefit.
    capsys.readouterr()  # what the run printed
    assert sightx_main("evaluate", str(run.directory), "--json") == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["metrics"] == pytest.approx(result["test"])
    assert scored["estimates"]["accuracy"]["low"] == result["intervals"]["test/accuracy"][0]
    names = {"ece", "brier", "auc/light", "specificity", "net-benefit/0.1"}
    assert names <= set(scored["estimates"])
    raw = np.exp(predictions.outputs - predictions.outputs.max(axis=1, keepdims=True))
    raw /= raw.sum(axis=1, keepdims=True)
    for name, probabilities in (("before", raw), ("after", predictions.probabilities)):
        error = expected_calibration_error(probabilities, predictions.labels)
        assert scored["calibration"][name]["value"] == pytest.approx(error, abs=1e-6)
    light = predictions.classes.index("light")
    called = predictions.probabilities[:, light] >= 0.1
    hits = (called & (predictions.labels == light)).mean()
    alarms = (called & (predictions.labels != light)).mean()
    benefit = hits - alarms / 9
    assert scored["estimates"]["net-benefit/0.1"]["value"] == pytest.approx(benefit)
    curve = scored["decision_curve"]
    assert curve["model"][curve["thresholds"].index(0.1)] == pytest.approx(benefit)
    assert sightx_main("evaluate", str(run.directory)) == 0
    text = capsys.readouterr().out
    assert "before postprocessing" in text
    assert "test/net-benefit/0.1" in text
    printed = {cells[0]: cells for cells in (re.split(" {2,}", one) for one in text.splitlines())}
    for name, *cells in metric_rows(result, "test")[1:]:  # as the run has printed them
        assert printed[f"test/{name}"] == [f"test/{name}", *filter(None, cells)]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    confidence = probabilities.max(axis=1)
    right, error = probabilities.argmax(axis=1) == labels, 0.0
    for lower in np.arange(15) / 15:
        inside = (confidence > lower) & (confidence <= lower + 1 / 15)
        if inside.any():
            error += abs(confidence[inside].mean() - right[inside].mean()) * inside.mean()
    return error


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
