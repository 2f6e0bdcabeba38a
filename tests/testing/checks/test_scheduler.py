from __future__ import annotations

import math

import pytest

from sightx.plugin import Scheduler
from sightx.testing.assertions import run_check
from sightx.testing.checks import scheduler as checks


class S(Scheduler):
    """Behave as a test requires."""

    name = "s"

    def factor(self, step, *, steps, steps_per_epoch, history):
        return 1 - step / steps


class Logarithm(S):
    def factor(self, step, *, steps, steps_per_epoch, history):
        return math.inf if step == 0 else 1.0


class Below(S):
    def factor(self, step, *, steps, steps_per_epoch, history):
        return 0.5 - step / steps


class Shrinking(S):
    def factor(self, step, *, steps, steps_per_epoch, history):
        SEEN.append(step)
        return 1 / len(SEEN)


SEEN: list[int] = []


class Writing(S):
    def factor(self, step, *, steps, steps_per_epoch, history):
        for epoch in history.epochs:
            epoch["train/loss"] = 0.0
        return 1.0


class TwiceWarm(S):
    def factor(self, step, *, steps, steps_per_epoch, history):
        rising = self.warmup * steps_per_epoch
        return min(1.0, (step + 1) / rising) if rising else 1.0


BROKEN = [
    (checks.factor_is_valid, Logarithm(), "the factor at step 0 is inf"),
    (checks.factor_is_valid, Below(), "return a finite float >= 0"),
    (checks.factor_is_pure, Shrinking(), "depends on earlier calls"),
    (checks.factor_is_pure, Writing(), "modifies the history"),
    (checks.warmup_is_not_in_factor, TwiceWarm(), "depends on warmup"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, S()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
