"""Metrics of probabilities against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from sightx.builtin.probability_metrics import Auc, Brier, Ece, LogLoss, Rps
from sightx.plugin import Predictions

ALL = [Auc(), Brier(), Ece(), LogLoss(), Rps()]


def predict(labels: Any, probabilities: Any) -> Predictions:
    labels, probabilities = np.asarray(labels, np.int64), np.asarray(probabilities)
    n, classes = probabilities.shape
    return Predictions(
        tuple(map(str, range(n))), ("",) * n, labels, probabilities, probabilities,
        np.zeros(n, np.int64), tuple("abcdefgh"[:classes]), True,
    )  # fmt: skip


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all of 2 to 5 classes, and probabilities of which many are equal."""
    classes, n = draw(st.integers(2, 5)), draw(st.integers(6, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    weights = rng.integers(1, 5, (n, classes)).astype(float)
    labels = np.arange(n) % classes
    return labels, weights / weights.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=50)
@given(samples())
def test_every_number_is_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = drawn
    given_predictions, classes = predict(labels, probabilities), probabilities.shape[1]
    computed = {k: v for metric in ALL for k, v in metric.compute(given_predictions).items()}
    areas = [roc_auc_score(labels == k, probabilities[:, k]) for k in range(classes)]
    cumulative = np.cumsum(probabilities, axis=1).clip(max=1)
    ranked = [brier_score_loss(labels <= k, cumulative[:, k]) for k in range(classes - 1)]
    one_hot = np.eye(classes)[labels]
    expected = {
        "auc": np.mean(areas),
        **{f"auc/{'abcdefgh'[k]}": area for k, area in enumerate(areas)},
        "brier": classes * np.mean([
            brier_score_loss(one_hot[:, k], probabilities[:, k]) for k in range(classes)
        ]),
        "ece": calibration_error(labels, probabilities),
        "log-loss": log_loss(labels, probabilities),
        "rps": np.mean(ranked),
    }  # fmt: skip
    assert computed == pytest.approx(expected, abs=1e-9)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error from scikit-learn's reliability curve of 15 bins."""
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    accuracy, mean = calibration_curve(is_right, confidence, n_bins=15)
    bins = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence)
    counts = np.bincount(bins, minlength=15)
    return float((np.abs(accuracy - mean) * counts[counts > 0]).sum() / len(labels))


def test_a_certain_prediction_belongs_to_the_last_bin() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.95, 0.05]])
    # One bin has a mean probability of 3.95 / 4 and an accuracy of 3 / 4.
    computed = Ece(bins=10).compute(predict([0, 1, 1, 0], probabilities))
    assert computed["ece"] == pytest.approx((3.95 - 3) / 4)


def test_perfect_predictions_have_no_error() -> None:
    perfect = predict([0, 1, 2], np.eye(3))
    scores = {k: v for metric in ALL for k, v in metric.compute(perfect).items()}
    assert {name: scores[name] for name in ("brier", "ece", "log-loss", "rps")} == dict.fromkeys(
        ("brier", "ece", "log-loss", "rps"), 0.0
    )
    assert scores["auc"] == 1


def test_a_probability_of_zero_costs_no_infinite_loss() -> None:
    impossible = predict([0], np.array([[0.0, 1.0]], np.float32))
    expected = log_loss([0], np.array([[0.0, 1.0]], np.float32), labels=[0, 1])
    assert LogLoss().compute(impossible)["log-loss"] == pytest.approx(expected, rel=1e-6)


def test_unknown_labels_are_left_out_and_without_any_all_are_nan() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    for metric in ALL:
        computed = metric.compute(predict([0, 2, -1, -1], probabilities))
        alone = metric.compute(predict([0, 2], probabilities[:2]))
        assert computed == pytest.approx(alone, nan_ok=True)
        unknown = metric.compute(predict([-1] * 4, probabilities))
        assert all(map(math.isnan, unknown.values()))
        assert list(unknown) == list(metric.values("abc"))
