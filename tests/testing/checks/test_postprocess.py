from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sightx.plugin import Postprocess
from sightx.testing.assertions import run_check
from sightx.testing.checks import postprocess as checks


class D(Postprocess):
    """Behave as a test requires."""

    name = "d"

    def fit(self, validation):
        return {"shift": 0.5}

    def apply(self, predictions, state):
        return predictions.with_decisions(predictions.probabilities.argmax(axis=1))


class ArrayState(D):
    def fit(self, validation):
        return {"cuts": np.zeros(3)}


class TupleState(D):
    def fit(self, validation):
        return {"cuts": (1, 2)}


class NanState(D):
    def fit(self, validation):
        return {"cut": math.nan}


class DicedState(D):
    def fit(self, validation):
        return {"cut": np.random.default_rng().random()}


class Diced(D):
    def apply(self, predictions, state):
        return predictions.with_decisions(np.random.default_rng().integers(0, 4, len(predictions)))


class OutOfRange(D):
    def apply(self, predictions, state):
        return predictions.with_decisions(predictions.decisions + 1)


class FloatDecisions(D):
    def apply(self, predictions, state):
        return replace(predictions, decisions=predictions.decisions / 1)


class Unnormal(D):
    def apply(self, predictions, state):
        return predictions.with_probabilities(predictions.probabilities * 2)


class Shortening(D):
    def apply(self, predictions, state):
        return replace(predictions, keys=predictions.keys[1:])


class InPlace(D):
    def apply(self, predictions, state):
        predictions.probabilities[:] = 0
        return predictions


class Labelled(D):
    def apply(self, predictions, state):
        assert (predictions.labels >= 0).all(), "wants labels"
        return predictions


class Uncalibrated(D):
    def apply(self, predictions, state):
        return predictions.with_probabilities(predictions.probabilities[:, ::-1])


BROKEN = [
    (checks.state_is_json, ArrayState(), "which is not JSON"),
    (checks.state_is_json, TupleState(), "which JSON reads as {'cuts': [1, 2]}"),
    (checks.state_is_json, NanState(), "which is not JSON"),
    (checks.fit_is_deterministic, DicedState(), "fit() returns"),
    (checks.apply_is_deterministic, Diced(), "fit in fit()"),
    (checks.apply_is_deterministic, InPlace(), "read-only"),
    (checks.decisions_are_classes, OutOfRange(), "are outside of 0..3"),
    (checks.decisions_are_classes, FloatDecisions(), "return integers (N,)"),
    (checks.decisions_are_classes, Unnormal(), "rows of probabilities sum to 2"),
    (checks.decisions_are_classes, Shortening(), "changes the samples"),
    (checks.decisions_are_classes, Labelled(), "wants labels"),
    (checks.calibrate_equals_apply, Uncalibrated(), "calibrate() differs from apply()"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, D()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
