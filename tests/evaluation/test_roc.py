"""Areas under curves against scikit-learn, also for weighted samples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from sightx.evaluation.roc import (
    roc_auc,
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
