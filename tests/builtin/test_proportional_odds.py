from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit

from sightx import SpecError
from sightx.builtin.proportional_odds import ProportionalOdds
from tests.builtin.test_postprocess import at_grades, blurred, predictions


def log_likelihood(slope, intercepts, expected, labels, classes):
    """Return the log-likelihood with the smoothing sample, sample by sample."""
    limits = [-np.inf, *intercepts, np.inf]
    total = 0.0
    grid = [(e, y, classes**-2) for e in range(classes) for y in range(classes)]
    for e, y, weight in [*((e, y, 1.0) for e, y in zip(expected, labels, strict=True)), *grid]:
        p = expit(slope * e - limits[y]) - expit(slope * e - limits[y + 1])
        total += weight * np.log(max(p, 1e-12))
    return total


def test_the_fit_is_the_one_scipy_finds() -> None:
    rng = np.random.default_rng(0)
    seen = rng.uniform(0, 3, 150)
    given = at_grades(seen, np.clip(np.rint(seen + rng.normal(0, 1, 150)), 0, 3).astype(int), 4)
    expected = given.probabilities @ np.arange(4)
    state = ProportionalOdds().fit(given)

    def negative(x):
        intercepts = np.cumsum([x[1], *np.exp(x[2:])])
        return -log_likelihood(x[0], intercepts, expected, given.labels, 4)

    reference = minimize(negative, [1.0, 0.5, 0.0, 0.0], method="BFGS", options={"gtol": 1e-8})
    assert state["slope"] == pytest.approx(reference.x[0], abs=1e-4)
    intercepts = np.cumsum([reference.x[1], *np.exp(reference.x[2:])])
    np.testing.assert_allclose(state["intercepts"], intercepts, atol=1e-4)


def surprise(given):
    return -np.log(given.probabilities[np.arange(len(given)), given.labels]).mean()


def test_it_recovers_the_model_that_the_grades_follow() -> None:
    rng = np.random.default_rng(0)
    expected = rng.uniform(0, 4, 20_000)
    above = expit(3.0 * (expected[:, None] - np.array([1.0, 1.4, 2.5, 3.3])))
    labels = (rng.random((20_000, 1)) < above).sum(axis=1)
    state = ProportionalOdds().fit(at_grades(expected, labels, 5))
    assert state["slope"] == pytest.approx(3.0, rel=0.05)
    cuts = np.array(state["intercepts"]) / state["slope"]
    np.testing.assert_allclose(cuts, [1.0, 1.4, 2.5, 3.3], atol=0.05)


def test_probabilities_of_skewed_grades_get_better_on_new_samples() -> None:
    state = ProportionalOdds().fit(blurred(0))
    assert surprise(ProportionalOdds().apply(blurred(1), state)) < 0.9


def test_a_grade_without_samples_keeps_a_probability() -> None:
    rng = np.random.default_rng(0)
    given = at_grades(rng.uniform(0, 3, 80), rng.choice([0, 1, 3], 80), 4)
    fitted = ProportionalOdds().apply(given, ProportionalOdds().fit(given))
    assert (fitted.probabilities > 0).all()
    assert fitted.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert fitted.probabilities[:, 2].max() < 0.05
    assert np.array_equal(fitted.decisions, given.decisions)


@pytest.mark.parametrize(
    "labels",
    [np.full(9, -1), np.zeros(9, int), np.arange(9) // 3],
    ids=["none", "one", "separable"],
)
def test_it_is_defined_for_any_labels(labels) -> None:
    state = ProportionalOdds().fit(at_grades(np.arange(9) / 4.5, labels, 3))
    assert 0 <= state["slope"] < 100
    assert np.isfinite(state["intercepts"]).all()
    assert state["intercepts"] == sorted(state["intercepts"])


def test_a_number_that_falls_with_the_grade_is_not_used() -> None:
    given = at_grades([0.1, 0.2, 1.8, 1.9] * 10, [2, 1, 0, 0] * 10, 3)
    state = ProportionalOdds().fit(given)
    assert state["slope"] == 0
    shares = ProportionalOdds().apply(given, state).probabilities[0]
    np.testing.assert_allclose(shares, np.array([20 + 1 / 3, 10 + 1 / 3, 10 + 1 / 3]) / 41)


def test_unordered_classes_are_refused() -> None:
    given = predictions(np.full((3, 3), 1 / 3), [0, 1, 2], ordered=False)
    with pytest.raises(SpecError, match="proportional-odds needs ordered classes"):
        ProportionalOdds().fit(given)


def test_exported_networks_compute_the_same() -> None:
    given = blurred(2, 50)
    state = ProportionalOdds().fit(given)
    expected = ProportionalOdds().apply(given, state).probabilities
    own = ProportionalOdds().calibrate(torch.from_numpy(given.probabilities).float(), state)
    np.testing.assert_allclose(own, expected, atol=1e-5)
