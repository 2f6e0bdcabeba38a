"""Calibration: bins against plain numpy, and the error against the metric and against chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sightx.builtin.probability_metrics import Ece
from sightx.evaluation.calibration import calibration_error, reliability
from support.predictions import eyes


def test_bins_hold_equally_many_samples_and_their_rates() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(200)
    is_true = rng.random(200) < probabilities
    bins = reliability(probabilities, is_true, np.arange(200) // 2)
    assert [one.samples for one in bins] == [20] * 10
    order = np.argsort(probabilities)
    for number, one in enumerate(bins):
        rows = order[20 * number : 20 * number + 20]
        assert one.probability == pytest.approx(probabilities[rows].mean())
        assert one.rate == pytest.approx(is_true[rows].mean())
        assert one.low <= one.rate <= one.high
    assert reliability(np.zeros(0), np.zeros(0, bool), np.zeros(0, int)) == []


def test_the_error_is_that_of_the_metric_and_chance_explains_a_calibrated_model() -> None:
    given = eyes(300)
    rng = np.random.default_rng(1)
    calibrated = replace(
        given, labels=np.array([rng.choice(4, p=row / row.sum()) for row in given.probabilities])
    )
    error = calibration_error(calibrated)
    assert error is not None
    assert error.value == pytest.approx(Ece().compute(calibrated)["ece"])
    assert 0 < error.expected < error.limit
    assert error.value < error.limit * 1.2
    certain = calibration_error(given.with_probabilities(np.eye(4)[(given.labels + 1) % 4]))
    assert certain == (1.0, 0.0, 0.0)
    assert calibration_error(replace(given, labels=np.full(600, -1))) is None
