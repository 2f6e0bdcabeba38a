from __future__ import annotations

import math

import numpy as np
import pytest

from sightx.plugin import Metric, wilson
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


class Share(Metric):
    """The fraction of right decisions, as a sum."""

    name = "share"

    def values(self, classes):
        return {"share": "max"}

    def sums(self, predictions):
        known = predictions.labels >= 0
        right = known & (predictions.decisions == predictions.labels)
        return np.stack([right, known], axis=1).astype(float)

    def of(self, sums):
        with np.errstate(invalid="ignore"):
            return {"share": sums[..., 0] / sums[..., 1]}

    def intervals(self, predictions, sums, level):
        low, high = wilson(sums[:, 0], sums[:, 1], level=level)
        return {"share": (low, high)}


class Reduced(Share):
    def sums(self, predictions):
        return super().sums(predictions).sum(axis=0)


class Centred(Share):
    def sums(self, predictions):
        sums = super().sums(predictions)
        return sums - sums.mean(axis=0)


class Scalar(Share):
    def of(self, sums):
        return {"share": np.sum(sums[..., 0]) / np.sum(sums[..., 1])}


class Disagreeing(Share):
    def compute(self, predictions):
        return {"share": 0.25}


class Unnamed(Share):
    def of(self, sums):
        return {}


class Weighed(Share):
    def weighted(self, predictions, weights):
        right = predictions.decisions == predictions.labels
        return {"share": (weights > 0) @ right / (weights > 0).sum(axis=1)}


class Summed(Share):
    def weighted(self, predictions, weights):
        return {"share": np.array(1.0)}


class Apart(Share):
    def intervals(self, predictions, sums, level):
        return {"share": (0.0, 0.1 * level)}


class Constant(Share):
    def intervals(self, predictions, sums, level):
        return {"share": (level, 1.0)} if level < 0.9 else {"share": (0.7, 0.8)}


class Renamed(Share):
    def intervals(self, predictions, sums, level):
        return {"fraction": (0.0, 1.0)}


BROKEN = [
    (checks.sums_give_the_numbers, Reduced(), "must return an array (60, S)"),
    (checks.sums_give_the_numbers, Centred(), "depends on the other samples"),
    (checks.sums_give_the_numbers, Scalar(), "of() returns () for sums of the shape (2, S)"),
    (checks.sums_give_the_numbers, Disagreeing(), "but [0.25, 0.25] computed"),
    (checks.sums_give_the_numbers, Unnamed(), "of() lacks 'share'"),
    (checks.weights_count_samples, Weighed(), "of weights, but"),
    (checks.weights_count_samples, Summed(), "of the shape (2, N)"),
    (checks.intervals_contain_the_numbers, Apart(), "does not contain 0.7"),
    (checks.intervals_contain_the_numbers, Constant(), "does not grow with the level"),
    (checks.intervals_contain_the_numbers, Renamed(), "names 'fraction', which compute() lacks"),
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


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


@pytest.mark.parametrize("metric", [V(), Share()], ids=lambda metric: metric.name)
def test_a_correct_component_passes(metric: Metric) -> None:
    results = [run_check(check, metric) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
