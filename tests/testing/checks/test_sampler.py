from __future__ import annotations

import numpy as np
import pytest

from sightx.plugin import Sampler
from sightx.testing.assertions import run_check
from sightx.testing.checks import sampler as checks


class Order(Sampler):
    """Behave as a test requires."""

    name = "order"

    def order(self, labels, *, epoch, seed):
        return np.random.default_rng([seed, epoch]).permutation(len(labels))


class Beyond(Order):
    def order(self, labels, *, epoch, seed):
        return np.arange(len(labels)) + 1


class Floats(Order):
    def order(self, labels, *, epoch, seed):
        return np.arange(len(labels)) / 1


class Growing(Order):
    def order(self, labels, *, epoch, seed):
        return np.arange(epoch + 1)


class Sorting(Order):
    def order(self, labels, *, epoch, seed):
        labels.sort()
        return np.arange(len(labels))


class Stateful(Order):
    def order(self, labels, *, epoch, seed):
        return np.random.default_rng().permutation(len(labels))


class SameEveryEpoch(Order):
    def order(self, labels, *, epoch, seed):
        return super().order(labels, epoch=0, seed=seed)


class SameForEverySeed(Order):
    def order(self, labels, *, epoch, seed):
        return super().order(labels, epoch=epoch, seed=0)


BROKEN = [
    (checks.positions_are_valid, Beyond(), "positions must be in 0..32"),
    (checks.positions_are_valid, Floats(), "an array of integers"),
    (checks.positions_are_valid, Growing(), "epochs have [1, 2, 3] samples"),
    (checks.positions_are_valid, Sorting(), "read-only"),
    (checks.order_is_pure, Stateful(), "depends on earlier calls"),
    (checks.seed_and_epoch_are_used, SameEveryEpoch(), "does not depend on epoch"),
    (checks.seed_and_epoch_are_used, SameForEverySeed(), "does not depend on seed"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, Order()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
