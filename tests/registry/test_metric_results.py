"""What metrics return, refused where it enters the core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sightx.plugin import Metric, Predictions
from sightx.registry import metric_results
from support.hostile import hostile, refused

PREDICTIONS = Predictions(
    keys=("a", "b"), groups=("", ""), labels=np.array([0, 1]), outputs=np.zeros((2, 2)),
    probabilities=np.full((2, 2), 0.5), decisions=np.array([0, 0]), classes=("x", "y"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"other": 0.1, "f": 0.2}, "'other', which values() does not name"),
        ({}, "did not return 'f'"),
        ({"f": "high"}, "'high' for 'f'"),
        ("high", "returned 'high'"),
    ],
)
def test_a_metric_returns_what_it_names(values: Any, part: str) -> None:
    metric = hostile(Metric, values={"f": "max"}, compute=values)
    refused(lambda: metric_results.metric_values(metric, PREDICTIONS), part)


@pytest.mark.parametrize("name", ["", " ", "a ", "a\nb", "\x1b[31m", 3])
def test_the_name_of_a_metric_is_printable_text(name: Any) -> None:
    refused(lambda: metric_results.metric_directions(hostile(Metric, values={name: "max"}), ("a",)))


def test_the_direction_of_a_metric_is_max_or_min() -> None:
    metric = hostile(Metric, values={"f": "up"})
    refused(lambda: metric_results.metric_directions(metric, ("x", "y")), '"max" or "min"')


@pytest.mark.parametrize("sums", [np.zeros((1, 2)), np.zeros(2), [[0.0], [1.0], [2.0]], 3])
def test_sums_have_a_row_for_each_sample(sums: Any) -> None:
    """Without this, some rows would count as all of them."""
    metric = hostile(Metric, values={"f": "max"}, sums=sums, of={"f": 0.5})
    refused(lambda: metric_results.metric_values(metric, PREDICTIONS), "return an array (N, S)")


@pytest.mark.parametrize("numbers", [{}, {"g": 0.1}, {"f": np.zeros(3)}, None])
def test_numbers_of_sums_are_one_for_each_name(numbers: Any) -> None:
    rows = np.ones((len(PREDICTIONS), 2))
    metric = hostile(Metric, values={"f": "max"}, sums=rows, of=numbers)
    refused(lambda: metric_results.metric_values(metric, PREDICTIONS), "a number for each name")


def test_the_value_of_a_metric_with_sums_is_that_of_their_total() -> None:
    class Twice(Metric):
        name = "twice"

        def values(self, classes: Any) -> Any:
            return {"f": "max"}

        def sums(self, predictions: Predictions) -> Any:
            return np.arange(len(predictions))[:, None]

        def of(self, sums: Any, *, classes: Any) -> Any:
            return {"f": 2 * sums[..., 0]}

    count = len(PREDICTIONS)
    expected = {"f": float(count * (count - 1))}
    assert metric_results.metric_values(Twice(), PREDICTIONS) == expected
