from __future__ import annotations

import math

import pytest

from sightx.plugin import History, Series

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "direction", "best"),
    [
        ((1.0, 3.0, 2.0), "max", 1),
        ((1.0, 3.0, 0.5), "min", 2),
        ((1.0, 1.0), "max", 0),
        ((NAN, 0.1, NAN), "max", 1),
        ((NAN, NAN), "min", None),
        ((), "max", None),
        ((math.inf, 5.0), "min", 1),
        ((5.0, math.inf), "max", 0),
        ((5.0, -math.inf), "min", 0),
        ((math.inf,), "max", None),
    ],
)
def test_the_best_is_the_earliest_finite_one(
    values: tuple[float, ...], direction: str, best: int | None
) -> None:
    assert Series(values, direction).best == best  # type: ignore[arg-type]


def test_values_equal_to_the_best_are_tied() -> None:
    assert Series((0.5, 0.9, NAN, 0.9), "max").tied == (1, 3)
    assert Series((0.5, 0.9), "min").tied == (0,)
    assert Series((NAN, NAN), "min").tied == ()


def test_a_margin_must_be_exceeded() -> None:
    series = Series((), "min")
    assert series.better(0.89, 1.0, 0.1)
    assert not series.better(0.95, 1.0, 0.1)
    assert not series.better(NAN, 1.0)
    assert series.better(1.0, NAN)
    assert not series.better(-math.inf, 1.0)
    assert Series((), "max").better(1.0, math.inf)


def test_a_history_follows_its_monitor_and_knows_directions() -> None:
    history = History("validation/qwk", {"validation/qwk": "max"})
    history = history.add({"validation/qwk": 0.2, "validation/loss": 1.0})
    history = history.add({"validation/loss": 0.5})
    assert history.series().values[0] == 0.2
    assert math.isnan(history.series().values[1])
    assert history.series("validation/loss").best == 1
    assert history.series("validation/loss").direction == "min"


def test_adding_changes_nothing_that_was() -> None:
    before = History("a", {})
    epoch = {"a": 1.0}
    after = before.add(epoch)
    epoch["a"] = 2.0
    assert before.epochs == ()
    assert after.epochs == ({"a": 1.0},)


def test_a_component_cannot_change_the_metrics_of_an_epoch() -> None:
    history = History("a", {}).add({"a": 1.0})
    with pytest.raises(TypeError, match="does not support item assignment"):
        history.epochs[0]["a"] = 2.0  # type: ignore[index]
