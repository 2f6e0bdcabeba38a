from __future__ import annotations

import math

import numpy as np
import pytest

from sightx.plugin import Metric
from sightx.testing.assertions import run_check
from sightx.testing.checks import metric as checks


class V(Metric):
    """Behave as a test requires."""

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
        return {f"v/{name}": "max" for name in classes}

    def compute(self, predictions):
        present = set(predictions.labels.tolist())
        return {f"v/{name}": 1.0 for at, name in enumerate(predictions.classes) if at in present}


BROKEN = [
    (checks.values_match_compute, Undeclared(), "compute() returns ['w']"),
    (checks.values_match_compute, Absent(), "values() declares ['w']"),
    (checks.values_match_compute, Nameless(), "values() returns no name"),
    (checks.values_match_compute, Sideways(), "{'up'} is not a direction"),
    (checks.values_match_compute, Numpy(), "compute() returns float64"),
    (checks.compute_is_deterministic, Random(), "differs from call to call"),
    (checks.perfect_beats_wrong, Inverted(), "v is 1 for perfect and 0 for wrong predictions"),
    (checks.perfect_beats_wrong, Undefined(), "all values are NaN"),
    (checks.edge_cases_are_computed, Dividing(), "with no sample compute() raises ZeroDivision"),
    (checks.edge_cases_are_computed, Shrinking(), "with no sample values are missing"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, V()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
