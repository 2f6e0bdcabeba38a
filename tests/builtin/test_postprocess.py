from __future__ import annotations

import itertools
import json
import math
import time

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from sightx import SpecError
from sightx.builtin.metrics import Qwk
from sightx.builtin.postprocess import CutPoints, Temperature
from sightx.plugin import Predictions


def predictions(probabilities, labels, ordered=True):
    n, classes = probabilities.shape
    return Predictions(
        tuple(map(str, range(n))), ("",) * n, np.asarray(labels), np.log(probabilities + 1e-30),
        probabilities, probabilities.argmax(axis=1), tuple("abcdefgh"[:classes]), ordered,
    )  # fmt: skip


def at_grades(expected, labels, classes):
    """Return predictions whose expected grades are the given numbers."""
    expected = np.asarray(expected, dtype=np.float64)
    low = np.minimum(np.floor(expected).astype(int), classes - 2)
    probabilities = np.zeros((len(expected), classes))
    rows = np.arange(len(expected))
    probabilities[rows, low], probabilities[rows, low + 1] = 1 - (expected - low), expected - low
    return predictions(probabilities, labels)


def blurred(seed, n=2000, classes=5, pull=0.45):
    """Return grades seen through noise and drawn to the lowest: 0.5, 1.5, ... cut them badly."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=[0.6, 0.15, 0.13, 0.07, 0.05])
    expected = np.clip(pull * labels + rng.normal(0, 0.25, n), 0, classes - 1)
    return at_grades(expected, labels, classes)


def kappa(given):
    return Qwk().compute(given)["qwk"]


def decided(given, cuts):
    return CutPoints().apply(given, {"cuts": list(cuts)})


@pytest.mark.parametrize("seed", range(25))
def test_cuts_are_as_good_as_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    classes, n = int(rng.integers(2, 5)), 9
    expected = np.sort(rng.choice(np.linspace(0, classes - 1, 40), n))  # some are equal
    given = at_grades(expected, rng.integers(0, classes, n), classes)
    gaps = [-0.1, *((expected[1:] + expected[:-1]) / 2)[np.diff(expected) > 0], classes]
    every = itertools.combinations_with_replacement(gaps, classes - 1)
    best = max(
        (kappa(decided(given, cuts)) for cuts in every), key=lambda k: (not math.isnan(k), k)
    )
    if (given.labels == given.labels[0]).all():
        assert CutPoints().fit(given)["cuts"] == list(np.arange(classes - 1) + 0.5)
    else:
        assert kappa(decided(given, CutPoints().fit(given)["cuts"])) == pytest.approx(best)


def test_cuts_gain_on_samples_they_were_not_fitted_on():
    cuts = CutPoints().fit(blurred(0))
    plain, fitted = decided(blurred(1), [0.5, 1.5, 2.5, 3.5]), CutPoints().apply(blurred(1), cuts)
    assert kappa(fitted) > kappa(plain) + 0.1


@pytest.mark.parametrize("seed", range(10))
def test_cuts_never_fall_below_the_start(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.05), 60).astype(np.float32)
    given = predictions(probabilities, rng.integers(0, 4, 60))
    fitted = kappa(CutPoints().apply(given, CutPoints().fit(given)))
    assert fitted >= kappa(decided(given, [0.5, 1.5, 2.5]))


def test_cuts_lie_midway_between_neighbours():
    given = at_grades([0.6, 0.8, 1.3, 1.4], [0, 0, 1, 1], 3)
    first, second = CutPoints().fit(given)["cuts"]
    assert first == pytest.approx((0.8 + 1.3) / 2)
    assert second == pytest.approx((1.4 + 2.5) / 2)  # half a grade beyond the highest


def test_cuts_that_share_a_gap_increase():
    given = at_grades([0.1, 0.2, 1.7, 1.8], [0, 0, 3, 3], 4)
    assert CutPoints().fit(given)["cuts"] == pytest.approx([0.575, 0.95, 1.325])


def test_rounding_noise_is_no_gap():
    given = at_grades([0.3, 0.3 + 1e-9, 1.2, 1.2 + 1e-9], [0, 1, 0, 1], 3)
    lower = CutPoints().fit(given)["cuts"][0]
    assert min(abs(lower - 0.3), abs(lower - 1.2)) > 0.1


@pytest.mark.parametrize("labels", [[-1, -1, -1], [2, 2, 2]], ids=["unknown", "one class"])
def test_cuts_stay_where_nothing_can_be_learned(labels):
    assert CutPoints().fit(at_grades([0.1, 1.0, 2.0], labels, 3)) == {"cuts": [0.5, 1.5]}


def test_unlabelled_samples_do_not_move_cuts():
    given = blurred(3, 300)
    more = at_grades(
        np.append(given.probabilities @ np.arange(5), [1.0, 3.0]),
        np.append(given.labels, [-1, -1]),
        5,
    )
    assert CutPoints().fit(more)["cuts"] == pytest.approx(CutPoints().fit(given)["cuts"])


def test_cuts_of_five_thousand_samples_are_cheap():
    given = blurred(4, 5000)
    start = time.perf_counter()
    CutPoints().fit(given)
    assert time.perf_counter() - start < 0.3


@pytest.mark.parametrize("ask", ["fit", "apply"])
def test_cuts_need_ordered_classes(ask):
    given = predictions(np.full((3, 3), 1 / 3), [0, 1, 2], ordered=False)
    with pytest.raises(SpecError) as caught:
        CutPoints().fit(given) if ask == "fit" else CutPoints().apply(given, {"cuts": [0.5, 1.5]})
    assert caught.value.problems[0].code == "not-ordered"


def confident(seed, true_temperature, n=3000):
    """Return probabilities that claim more, or less, than they hold."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 4))
    honest = np.exp(logits / true_temperature)
    honest /= honest.sum(axis=1, keepdims=True)
    labels = (honest.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    claimed = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return predictions(claimed, labels)


def surprise(given, temperature=1.0):
    """Mean negative log-likelihood at a temperature, by powers of the probabilities."""
    powers = given.probabilities ** (1 / temperature)
    shares = powers / powers.sum(axis=1, keepdims=True)
    return -np.log(shares[np.arange(len(given)), given.labels]).mean()


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_scipy_finds(true_temperature):
    given = confident(0, true_temperature)
    reference = minimize_scalar(
        lambda t: surprise(given, t), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}
    )
    found = Temperature().fit(given)["temperature"]
    assert found == pytest.approx(reference.x, rel=1e-5)
    assert found == pytest.approx(true_temperature, rel=0.1)


def test_the_temperature_makes_new_probabilities_honest():
    fitted = Temperature().apply(confident(1, 3.0), Temperature().fit(confident(0, 3.0)))
    assert surprise(fitted) == pytest.approx(surprise(confident(1, 3.0), 3.0), abs=0.005)
    assert fitted.probabilities.sum(axis=1) == pytest.approx(1.0)


def test_the_temperature_leaves_decisions():
    given = confident(2, 3.0)
    given = given.with_decisions((given.decisions + 1) % 4)
    assert Temperature().apply(given, {"temperature": 2.5}).decisions.tolist() == (
        given.decisions.tolist()
    )


def test_probabilities_of_nothing_stay_finite():
    sure = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    for labels in ([0, 1, 0], [0, 1, 1]):
        given = predictions(sure, labels)
        state = Temperature().fit(given)
        fitted = Temperature().apply(given, state)
        assert 0.01 <= state["temperature"] <= 100.0
        assert fitted.probabilities.dtype == np.float32
        assert np.isfinite(fitted.probabilities).all()


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.full((3, 2), 0.5), [0, 1, 1]),
        (np.full((3, 7), 1 / 7), [0, 1, 6]),
        (np.array([[0.9, 0.1]]), [-1]),
    ],
    ids=["flat", "flat too", "unlabelled"],
)
def test_the_temperature_is_one_where_none_is_better(probabilities, labels):
    assert Temperature().fit(predictions(probabilities, labels)) == {"temperature": 1.0}


@pytest.mark.parametrize(("flip", "bound"), [(False, 0.01), (True, 100.0)])
def test_the_temperature_stays_within_its_bounds(flip, bound):
    """Where labels are always, or never, the likelier class, no temperature is extreme enough."""
    likelier = np.tile([[0.51, 0.49], [0.49, 0.51]], (20, 1))
    labels = np.tile([1, 0] if flip else [0, 1], 20)
    found = Temperature().fit(predictions(likelier, labels))["temperature"]
    assert found == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("component", [CutPoints(), Temperature()], ids=lambda c: c.name)
def test_the_state_survives_json_and_repeats(component):
    given = blurred(5, 400)
    state = component.fit(given)
    again = json.loads(json.dumps(state, allow_nan=False))
    assert again == state == component.fit(given)
    first, second = component.apply(given, state), component.apply(given, again)
    assert (first.decisions == second.decisions).all()
    assert (first.probabilities == second.probabilities).all()
    assert all(math.isfinite(v) for value in state.values() for v in np.atleast_1d(value))
