from __future__ import annotations

import math

import numpy as np
import pytest

from sightx.builtin.stopping import Early, Never, TimeLimit
from sightx.plugin import History


def history(values: list[float], direction: str = "min", name: str = "validation/loss") -> History:
    return History(name, {name: direction}, tuple({name: value} for value in values))


def keras_stops_after(
    values: list[float], direction: str, patience: int, delta: float
) -> int | None:
    """Return the epoch, counted from 1, after which Keras' EarlyStopping ends training."""
    sign = 1 if direction == "max" else -1
    best, wait = -math.inf, 0
    for epoch, value in enumerate(values, start=1):
        wait += 1
        if not math.isnan(value) and sign * value > best + delta:
            best, wait = sign * value, 0
        if wait >= patience:
            return epoch
    return None


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize(("patience", "delta"), [(1, 0.0), (3, 0.0), (4, 0.02), (2, 0.1)])
def test_early_stops_where_keras_does(direction: str, patience: int, delta: float) -> None:
    early = Early(patience=patience, min_delta=delta)
    ends = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values = (0.5 + 0.3 * (1 - np.exp(-np.arange(25) / 6)) + rng.normal(0, 0.03, 25)).tolist()
        values[rng.integers(0, 25)] = math.nan
        values = values if direction == "max" else [-value for value in values]
        reasons = [early.reason(history(values[:n], direction)) for n in range(1, 26)]
        first = next((n for n, reason in enumerate(reasons, start=1) if reason), None)
        assert first == keras_stops_after(values, direction, patience, delta)
        ends.append(first)
    assert len(set(ends)) > 2


def test_the_reason_names_figure_best_and_wait() -> None:
    losses = [0.9, 0.8, 0.7, 0.4321, 0.5, 0.4321, math.nan]
    reason = "validation/loss has not improved on 0.4321 of epoch 4 for 3 epochs"
    assert Early().reason(history(losses)) == reason
    assert Early().reason(history(losses[:-1])) is None
    reason = "validation/loss has not improved on 0.4321 of epoch 4 for 1 epoch"
    assert Early(patience=1).reason(history(losses[:5])) == reason


def test_small_steps_that_add_up_are_an_improvement() -> None:
    slow = [1 - 0.03 * n for n in range(30)]
    assert Early(patience=5, min_delta=0.1).reason(history(slow)) is None
    assert Early(patience=3, min_delta=0.1).reason(history(slow[:4])) is not None


def test_a_figure_that_never_comes_stops_training() -> None:
    reason = "validation/qwk has had no value for 3 epochs"
    assert Early(monitor="validation/qwk").reason(history([0.3, 0.2, 0.1])) == reason
    assert Early(monitor="validation/qwk").reason(history([0.3, 0.2])) is None


def test_never_gives_no_reason() -> None:
    assert Never().reason(history([1.0] * 100)) is None


def timed(*minutes: float) -> History:
    past = history([0.5] * 0)
    for duration in minutes:
        past = past.add({"validation/loss": 0.5}, 60 * duration)
    return past


def test_a_time_limit_ends_training_when_another_epoch_would_not_fit() -> None:
    limit = TimeLimit(minutes=10)
    assert limit.reason(timed()) is None
    assert limit.reason(timed(2, 3, 2)) is None  # 7 + 3 minutes
    reason = limit.reason(timed(2, 3.5, 2))
    assert reason == (
        "training has taken 7.5 minutes, and another epoch may take 3.5: the limit is 10"
    )
    assert limit.reason(timed(6)) is not None  # one epoch longer than half of the limit
