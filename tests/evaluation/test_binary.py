"""The binary decision: thresholds by a search over all of them, rates against scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

import sightx
from sightx import Predictor
from sightx.evaluation.binary import (
    AUC,
    AVERAGE_PRECISION,
    BinaryDecision,
    area_metrics,
    fit_binary_decision,
)
from sightx.evaluation.intervals import confidence_intervals
from sightx.plugin import Predictions, to_plain
from sightx.registry import metric_results
from sightx.spec.experiment import Evaluation
from support.models import write_tiny_spec
from support.predictions import eyes

SETTINGS = Evaluation(positive=("c", "d"))


def fitted(predictions: Predictions, settings: Evaluation = SETTINGS) -> BinaryDecision:
    decision = fit_binary_decision(settings, predictions)
    assert decision is not None
    return decision


def rates(predictions: Predictions, threshold: float) -> tuple[float, float]:
    """Return sensitivity and specificity."""
    is_positive = predictions.labels >= 2
    is_called = predictions.probabilities[:, 2:].astype(float).sum(axis=1) >= threshold
    return float(is_called[is_positive].mean()), float((~is_called[~is_positive]).mean())


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
def test_thresholds_are_the_best_that_reach_the_targets(target: float) -> None:
    given = eyes(80)
    settings = SETTINGS.model_copy(
        update={"target_sensitivity": target, "target_specificity": target}
    )
    sensitive, specific = fitted(given, settings).operating_points
    scores = given.probabilities[:, 2:].astype(float).sum(axis=1)
    tried = [(value, *rates(given, value)) for value in (*scores, 2.0)]
    assert sensitive.threshold is not None
    assert specific.threshold is not None
    assert rates(given, sensitive.threshold)[0] >= target
    assert rates(given, specific.threshold)[1] >= target
    # No threshold with the target has more of the other rate.
    best = max(specificity for _, sensitivity, specificity in tried if sensitivity >= target)
    assert rates(given, sensitive.threshold)[1] == best
    best = max(sensitivity for _, sensitivity, specificity in tried if specificity >= target)
    assert rates(given, specific.threshold)[0] == best
    # The last digits of a score change nothing.
    assert not np.isclose(scores, sensitive.threshold, rtol=0, atol=1e-9).any()
    assert not np.isclose(scores, specific.threshold, rtol=0, atol=1e-9).any()


def test_a_specificity_that_no_score_reaches_calls_nothing_positive() -> None:
    given = eyes(20)
    certain = np.eye(4)[[3] * len(given)]  # all scores are 1
    (_, specific) = fitted(given.with_probabilities(certain)).operating_points
    assert specific.threshold is not None
    assert rates(given.with_probabilities(certain), specific.threshold) == (0, 1)


def test_metrics_are_those_of_scikit_learn() -> None:
    validation, test = eyes(80), eyes(80, seed=1)
    decision = fitted(validation)
    is_positive = test.labels >= 2
    scores = decision.scores(test.probabilities, test.classes)
    numbers = {
        name: value
        for metric in decision.metrics()
        for name, value in metric_results.metric_values(metric, test).items()
    }
    assert numbers[AUC] == pytest.approx(roc_auc_score(is_positive, scores))
    assert numbers[AVERAGE_PRECISION] == pytest.approx(average_precision_score(is_positive, scores))
    for point in decision.operating_points:
        assert point.threshold is not None
        (tn, fp), (fn, tp) = confusion_matrix(is_positive, scores >= point.threshold)
        assert [numbers[f"{point.name}/{rate}"] for rate in
                ("sensitivity", "specificity", "ppv", "npv")] == pytest.approx(
            [tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)]
        )  # fmt: skip
    intervals = confidence_intervals(test, decision.metrics(), draws=200)
    assert intervals["high-sensitivity/sensitivity"].method == "formula"
    assert all(item.low <= item.value <= item.high for item in intervals.values())


def test_without_a_sort_of_samples_there_is_no_threshold_and_a_reason() -> None:
    given = eyes(20)
    healthy = given.take(np.flatnonzero(given.labels < 2))
    decision = fitted(healthy)
    assert [point.threshold for point in decision.operating_points] == [None, None]
    assert decision.operating_points[0].reason == "no validation sample is positive"
    assert [metric.name for metric in decision.metrics()] == ["binary"]
    (areas,) = decision.metrics()
    assert all(map(np.isnan, metric_results.metric_values(areas, healthy).values()))
    unknown = fitted(replace(given, labels=np.full(len(given), -1)))
    assert unknown.operating_points[0].reason == "no validation sample is positive or negative"
    assert BinaryDecision.from_record(to_plain(decision)) == decision
    assert fit_binary_decision(Evaluation(), given) is None
    assert area_metrics(Evaluation()) == []
    assert area_metrics(SETTINGS) == fitted(given).metrics()[:1]


def test_a_run_fits_on_validation_alone_and_stores_the_decision(tmp_path: Path) -> None:
    recipes, results_ = [], []
    for swapped in (False, True):
        folder = tmp_path / str(swapped)
        spec = write_tiny_spec(folder)
        if swapped:  # every label of the test split changes
            test = folder / "data" / "test"
            (test / "dark").rename(test / "x")
            (test / "light").rename(test / "dark")
            (test / "x").rename(test / "light")
        sets = ["evaluation.positive=['light']", "evaluation.target_sensitivity=0.8",
                "training.epochs=2"]  # fmt: skip
        run = sightx.run(sightx.load(spec, sets), runs=folder / "runs")
        recipes.append((run.checkpoint() / "recipe.json").read_bytes())
        results_.append(run.result["test"])
    assert recipes[0] == recipes[1]
    assert results_[0] != results_[1]
    recipe = Predictor.load(run.directory, "cpu").recipe
    validation = run.predictions_of("validation")
    assert validation is not None
    assert recipe.binary == fit_binary_decision(
        Evaluation(positive=("light",), target_sensitivity=0.8), validation
    )
