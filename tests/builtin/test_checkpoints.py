from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx.builtin.checkpoints import Best, Every, Last
from sightx.plugin import History

figures = st.one_of(st.sampled_from([math.nan, 0.0, 0.5, 0.75]), st.floats(-1, 1))


def history(values: list[float], direction: str = "max") -> History:
    return History("figure", {"figure": direction}, tuple({"figure": value} for value in values))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(figures, max_size=8), st.sampled_from(["max", "min"]))
def test_best_is_kept_exactly_when_it_beats_all_before(values: list[float], direction: str) -> None:
    sign = 1 if direction == "max" else -1
    before = [sign * value for value in values[:-1] if not math.isnan(value)]
    wins = bool(values) and sign * values[-1] > max(before, default=-math.inf)
    assert set(Best().keep(history(values, direction))) == ({"best"} if wins else set())


def test_best_keeps_nothing_without_a_figure() -> None:
    assert not Best().keep(history([math.nan, math.nan]))
    assert not Best(monitor="another").keep(history([0.1, 0.2]))


def test_best_may_follow_a_figure_of_its_own() -> None:
    epochs = ({"qwk": 0.5, "loss": 0.9}, {"qwk": 0.4, "loss": 0.8})
    both = History("qwk", {"qwk": "max", "loss": "min"}, epochs)
    assert not Best().keep(both)
    assert set(Best(monitor="loss").keep(both)) == {"best"}


@pytest.mark.parametrize(
    ("epochs", "kept"), [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6]), (7, [7]), (8, [])]
)
def test_every_keeps_each_nth_epoch_under_its_number(epochs: int, kept: list[int]) -> None:
    states = [set(Every(epochs=epochs).keep(history([0.0] * n))) for n in range(8)]
    assert states == [{f"epoch-000{n}"} if n in kept else set() for n in range(8)]


def test_last_always_keeps() -> None:
    assert set(Last().keep(history([math.nan]))) == {"last"}
