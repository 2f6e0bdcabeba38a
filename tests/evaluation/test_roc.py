"""Areas under curves against scikit-learn, also for weighted samples."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from sklearn.metrics import average_precision_score, roc_auc_score

from sightx.evaluation.roc import (
    net_benefit,
    precision_recall_curve,
    roc_auc,
    roc_curve,
    threshold_counts,
    weighted_average_precision,
    weighted_roc_auc,
)

RNG = np.random.default_rng(0)
IS_POSITIVE, SCORES = RNG.random(200) < 0.3, RNG.integers(0, 9, 200)  # with many equal scores


def test_the_auc_is_that_of_scikit_learn_with_ties() -> None:
    assert roc_auc(IS_POSITIVE, SCORES) == pytest.approx(roc_auc_score(IS_POSITIVE, SCORES))
    assert np.isnan(roc_auc(np.ones(3, bool), np.arange(3)))


@pytest.mark.parametrize(
    ("area", "reference"),
    [
        (weighted_roc_auc, roc_auc_score),
        (weighted_average_precision, average_precision_score),
    ],
)
def test_weighted_areas_are_those_of_scikit_learn(area, reference) -> None:
    weights = RNG.integers(0, 4, (5, 200)).astype(float)
    expected = [reference(IS_POSITIVE, SCORES, sample_weight=row) for row in weights]
    assert area(IS_POSITIVE, SCORES, weights) == pytest.approx(expected)
    assert np.isnan(area(np.zeros(3, bool), np.arange(3), np.ones((2, 3)))).all()
    assert np.isnan(area(np.zeros(0, bool), np.zeros(0), np.ones((2, 0)))).all()


def test_thresholds_count_the_samples_at_or_above_them() -> None:
    thresholds, hits, alarms = threshold_counts(IS_POSITIVE, SCORES)
    for value, hit, alarm in zip(thresholds, hits, alarms, strict=True):
        assert (hit, alarm) == (
            (SCORES[IS_POSITIVE] >= value).sum(), (SCORES[~IS_POSITIVE] >= value).sum()
        )  # fmt: skip


def test_curves_are_those_of_scikit_learn() -> None:
    scores = RNG.random(200)  # without ties no point is left out
    expected = sklearn.metrics.roc_curve(IS_POSITIVE, scores, drop_intermediate=False)
    for part, other in zip(roc_curve(IS_POSITIVE, scores), expected, strict=False):
        assert part == pytest.approx(other)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(IS_POSITIVE, scores)
    found = precision_recall_curve(IS_POSITIVE, scores)
    assert found[0] == pytest.approx(recall[-2::-1])
    assert found[1] == pytest.approx(precision[-2::-1])


def test_net_benefit_is_that_of_its_definition() -> None:
    scores, thresholds = RNG.random(200), np.array([0.1, 0.5])
    for value, t in zip(net_benefit(IS_POSITIVE, scores, thresholds), thresholds, strict=True):
        (_, fp), (_, tp) = sklearn.metrics.confusion_matrix(IS_POSITIVE, scores >= t)
        assert value == pytest.approx(tp / 200 - fp / 200 * t / (1 - t))
    everybody = net_benefit(IS_POSITIVE, np.ones(200), thresholds)
    share = IS_POSITIVE.mean()
    assert everybody == pytest.approx(share - (1 - share) * thresholds / (1 - thresholds))
