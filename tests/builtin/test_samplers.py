from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx.builtin.samplers import Balanced, DecayingBalance, Sequential, Shuffle
from sightx.plugin import Sampler, call_declared, generator

SKEWED = np.repeat([0, 1, 2, 4], [700, 200, 90, 10])


@pytest.mark.parametrize(
    "sampler", [Shuffle(), Balanced(), Balanced(samples=77), DecayingBalance()]
)
def test_an_order_is_a_function_of_seed_and_epoch(sampler: Sampler) -> None:
    def order(labels: Any, epoch: int, seed: int) -> Any:
        return call_declared(sampler.order, labels, epoch=epoch, epochs=9, seed=seed)

    first = order(SKEWED, 3, 1)
    generator(0, "anything").random(10)
    assert np.array_equal(first, order(SKEWED.copy(), 3, 1))
    assert not np.array_equal(first, order(SKEWED, 4, 1))
    assert not np.array_equal(first, order(SKEWED, 3, 2))


def test_shuffle_is_an_even_permutation() -> None:
    labels = np.zeros(8, dtype=np.int64)
    places = np.zeros((8, 8))
    for epoch in range(2000):
        order = Shuffle().order(labels, epoch=epoch, seed=0)
        assert sorted(order) == list(range(8))
        places[np.arange(8), order] += 1
    # Each sample comes first, second ... 250 times on average, with a deviation of 15.
    assert np.all(np.abs(places - 250) < 5 * 15)


def test_sequential_keeps_the_order() -> None:
    assert Sequential().order(SKEWED, epoch=2, seed=9).tolist() == list(range(1000))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array),
    st.one_of(st.none(), st.integers(1, 90)),
    st.integers(0, 5),
)
def test_balanced_draws_every_class_equally_often_and_evenly(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], samples: int | None, start: int
) -> None:
    epochs = range(start, start + 8)
    orders = [Balanced(samples=samples).order(labels, epoch=e, seed=0) for e in epochs]
    assert {len(order) for order in orders} == {samples or len(labels)}
    classes = np.unique(labels)
    for drawn in [*orders, np.concatenate(orders)]:
        shares = [(labels[drawn] == label).sum() for label in classes]
        assert max(shares) - min(shares) <= 1
    seen = np.bincount(np.concatenate(orders), minlength=len(labels))
    for label in classes:  # at most the passes that the first and the last epoch cut
        times = seen[labels == label]
        assert times.max() - times.min() <= 2


def test_balanced_sees_all_of_a_common_class_before_it_repeats_one() -> None:
    orders = [Balanced().order(SKEWED, epoch=epoch, seed=0) for epoch in range(6)]
    common = [position for order in orders for position in order if SKEWED[position] == 0]
    assert len(common) == 6 * 250
    # Order within an epoch is shuffled; two epochs draw 500, none of them twice.
    assert len(set(common[:500])) == 500
    assert np.bincount(common, minlength=700)[:700].max() == 3
    assert np.bincount(common, minlength=700)[:700].min() == 2
    rare = [int(position) for position in orders[0] if SKEWED[position] == 4]
    assert np.bincount(rare)[990:].tolist() == [25] * 10


def test_balanced_mixes_classes_within_an_epoch() -> None:
    drawn = SKEWED[Balanced().order(SKEWED, epoch=0, seed=0)]
    halves = [np.bincount(half, minlength=5)[[0, 1, 2, 4]] for half in (drawn[:500], drawn[500:])]
    # Hypergeometric: 125 a class and half, with a deviation of 6.8.
    assert np.all(np.abs(np.array(halves) - 125) < 5 * 6.8)


def test_balanced_goes_through_a_class_in_a_new_order_each_time() -> None:
    labels = np.repeat([0, 1], 500)
    orders = [Balanced(samples=500).order(labels, epoch=epoch, seed=0) for epoch in (0, 2)]
    halves = [{int(position) for position in order if position < 500} for order in orders]
    # The first half of each pass: 125 meet on average, with a deviation of 5.6.
    assert abs(len(halves[0] & halves[1]) - 125) < 5 * 5.6


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.0, 1.0), (0.8, 0.5)])
def test_decaying_balance_goes_from_one_distribution_to_the_other(start: float, end: float) -> None:
    sampler, epochs = DecayingBalance(start=start, end=end), 5
    shares = np.array([0.7, 0.2, 0.09, 0.01])
    for epoch in range(epochs):
        order = sampler.order(SKEWED, epoch=epoch, epochs=epochs, seed=3)
        balance = start + (end - start) * epoch / (epochs - 1)
        counts = np.unique(SKEWED[order], return_counts=True)[1]
        expected = 1000 * (balance / 4 + (1 - balance) * shares)
        assert len(order) == 1000
        assert np.abs(counts - expected).max() < 1


def test_decaying_balance_sees_all_of_a_class_before_it_repeats_one() -> None:
    orders = [DecayingBalance().order(SKEWED, epoch=e, epochs=4, seed=0) for e in range(4)]
    visits = np.bincount(np.concatenate(orders), minlength=1000)
    for label in np.unique(SKEWED):
        of_class = visits[label == SKEWED]
        assert of_class.max() - of_class.min() <= 1


def test_a_single_epoch_has_the_first_balance() -> None:
    order = DecayingBalance().order(SKEWED, epoch=0, epochs=1, seed=0)
    assert np.unique(SKEWED[order], return_counts=True)[1].tolist() == [250] * 4
