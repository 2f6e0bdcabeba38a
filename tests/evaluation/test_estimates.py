"""Estimates: intervals, baselines against scikit-learn, and why a number is undefined."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import cohen_kappa_score, log_loss

from sightx.builtin.metrics import Accuracy, Precision, Qwk, Recall
from sightx.builtin.probability_metrics import Auc, LogLoss
from sightx.evaluation.estimates import (
    Estimate,
    estimate_metrics,
    majority_predictions,
    to_result,
    undefined_reason,
)
from sightx.evaluation.intervals import confidence_intervals
from support.predictions import eyes

COUNTS = (70, 20, 6, 4)  # of the train split
METRICS = [Accuracy(), Recall(), Qwk(), LogLoss(), Auc()]


def test_baselines_are_those_of_a_dummy_classifier() -> None:
    given = eyes(80)
    train = np.repeat(range(4), COUNTS)
    dummy = DummyClassifier(strategy="prior").fit(train[:, None], train)
    decided, shares = (
        dummy.predict(given.labels[:, None]),
        dummy.predict_proba(given.labels[:, None]),
    )
    estimates = estimate_metrics(given, METRICS, COUNTS, draws=100)
    assert estimates["accuracy"].baseline == pytest.approx(np.mean(decided == given.labels))
    assert estimates["qwk"].baseline == pytest.approx(
        cohen_kappa_score(given.labels, decided, weights="quadratic")
    )
    assert estimates["log-loss"].baseline == pytest.approx(log_loss(given.labels, shares))
    assert estimates["recall"].baseline == 0.25
    assert estimates["auc"].baseline == 0.5
    intervals = confidence_intervals(given, METRICS, draws=100)
    for name, one in estimates.items():
        assert (one.value, one.low, one.high) == intervals[name][:3]
    assert estimates["qwk"].beats_baseline
    assert estimates["log-loss"].beats_baseline
    assert not Estimate(0.3, 0.1, 0.5, 0.2, "max").beats_baseline
    assert not Estimate(0.3, 0.1, 0.5, 0.4, "min").beats_baseline
    assert Estimate(0.3, 0.1, 0.5, 0.6, "max").is_below_baseline
    assert not Estimate(0.3, 0.1, 0.5, 0.6, "min").is_below_baseline


def test_without_a_train_split_the_shares_are_alike() -> None:
    majority = majority_predictions(eyes(3), np.zeros(4))
    assert (majority.probabilities == 0.25).all()


def test_an_undefined_number_says_why() -> None:
    given = eyes(80)
    few = given.take(np.flatnonzero((given.labels < 3) & (given.decisions < 3)))
    estimates = estimate_metrics(few, [Recall(), Precision(), Qwk()], COUNTS, draws=50)
    assert math.isnan(estimates["recall/d"].value)
    assert estimates["recall/d"].reason == estimates["precision/d"].reason == "no sample of d"
    assert not math.isnan(estimates["recall"].value)  # the mean of the others
    assert estimates["recall"].reason == ""
    healthy = given.take(np.flatnonzero((given.labels == 0) & (given.decisions == 0)))
    (qwk,) = estimate_metrics(healthy, [Qwk()], COUNTS, draws=50).values()
    assert qwk.reason == "all samples are of a"
    assert undefined_reason("auc/a", healthy) == "all samples are of a"
    unknown = replace(given, labels=np.full(len(given), -1))
    assert undefined_reason("qwk", unknown) == "no sample has a label"
    assert undefined_reason("mine", given) == "undefined for these predictions"
    result = to_result(estimates, "test")
    assert result["undefined"]["test/recall/d"] == "no sample of d"
    assert result["intervals"]["test/recall/a"] == list(estimates["recall/a"][1:3])
    assert result["baselines"]["test/recall/a"] == 1
