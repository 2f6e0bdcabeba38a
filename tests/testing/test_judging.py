from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sightx.plugin import Metric, Postprocess
from sightx.testing import judging
from sightx.testing.demands import find


class D(Postprocess):
    """Decide as a test says."""

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


class V(Metric):
    """Compute what a test says."""

    name = "v"

    def values(self, classes):
        return {"v": "max"}

    def compute(self, predictions):
        known = predictions.labels >= 0
        right = predictions.decisions[known] == predictions.labels[known]
        return {"v": float(right.mean()) if known.any() else math.nan}


class Undeclared(V):
    def compute(self, predictions):
        return {**super().compute(predictions), "w": 1.0}


class Absent(V):
    def values(self, classes):
        return {"v": "max", "w": "max"}


class Nameless(V):
    def values(self, classes):
        return {}


class Sideways(V):
    def values(self, classes):
        return {"v": "up"}


class Numpy(V):
    def compute(self, predictions):
        return {"v": np.float64(1)}


class Random(V):
    def compute(self, predictions):
        return {"v": float(np.random.default_rng().random())}


class Inverted(V):
    def values(self, classes):
        return {"v": "min"}


class Undefined(V):
    def compute(self, predictions):
        return {"v": math.nan}


class Dividing(V):
    def compute(self, predictions):
        right = int((predictions.decisions == predictions.labels).sum())
        return {"v": right / len(predictions)}


class Shrinking(V):
    def values(self, classes):
        return {f"v/{each}": "max" for each in classes}

    def compute(self, predictions):
        present = set(predictions.labels.tolist())
        return {f"v/{name}": 1.0 for at, name in enumerate(predictions.classes) if at in present}


BROKEN = [
    (judging.state_is_json, ArrayState(), "which is no JSON"),
    (judging.state_is_json, TupleState(), "which JSON reads as {'cuts': [1, 2]}"),
    (judging.state_is_json, NanState(), "which is no JSON"),
    (judging.fit_repeats, DicedState(), "fit() gives"),
    (judging.apply_repeats, Diced(), "learn in fit()"),
    (judging.apply_repeats, InPlace(), "read-only"),
    (judging.decisions_are_classes, OutOfRange(), "leave 0..3"),
    (judging.decisions_are_classes, FloatDecisions(), "give integers, one a sample"),
    (judging.decisions_are_classes, Unnormal(), "rows of probabilities sum to 2"),
    (judging.decisions_are_classes, Shortening(), "which samples there are"),
    (judging.decisions_are_classes, Labelled(), "wants labels"),
    (judging.figures_are_declared, Undeclared(), "compute() gives ['w']"),
    (judging.figures_are_declared, Absent(), "values() names ['w']"),
    (judging.figures_are_declared, Nameless(), "values() names no figure"),
    (judging.figures_are_declared, Sideways(), "{'up'} is no direction"),
    (judging.figures_are_declared, Numpy(), "figures are of type float64"),
    (judging.compute_repeats, Random(), "differs from call to call"),
    (judging.perfect_is_best, Inverted(), "v is 1 of perfect and 0 of wrong predictions"),
    (judging.perfect_is_best, Undefined(), "every figure is NaN"),
    (judging.nothing_is_too_little, Dividing(), "with no sample compute() raises ZeroDivision"),
    (judging.nothing_is_too_little, Shrinking(), "with no sample figures are missing"),
]


@pytest.mark.parametrize(("check", "broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, check, broken, words) -> None:
    caught(check, broken, words)


def test_the_table_of_broken_components_is_whole() -> None:
    assert {row[0] for row in BROKEN} == {*judging.DECIDE, *judging.METRIC}
    found = [find(check, D()) for check in judging.DECIDE]
    found += [find(check, V()) for check in judging.METRIC]
    assert [str(finding) for finding in found if not finding.ok] == []
