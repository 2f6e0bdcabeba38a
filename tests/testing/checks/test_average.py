from __future__ import annotations

import pytest

from sightx.plugin import Average
from sightx.testing.assertions import run_check
from sightx.testing.checks import average as checks


class A(Average):
    """Behave as a test requires."""

    name = "a"

    def share(self, step):
        return 1 / (1 + step)


class Over(A):
    def share(self, step):
        return 1.0 + step


class Text(A):
    def share(self, step):
        return "0.5"


class Counting(A):
    def share(self, step):
        SEEN.append(step)
        return 1 / len(SEEN)


SEEN: list[int] = []


class Writing(A):
    def share(self, step, *, history):
        for epoch in history.epochs:
            epoch["train/loss"] = 0.0
        return 1.0


class Late(A):
    def share(self, step, *, steps_per_epoch):
        return float(step >= steps_per_epoch)


BROKEN = [
    (checks.share_is_valid, Over(), "the share at step 1 is 2.0"),
    (checks.share_is_valid, Text(), "the share at step 0 is '0.5'; return a float from 0 to 1"),
    (checks.share_is_pure, Counting(), "depends on earlier calls"),
    (checks.share_is_pure, Writing(), "modifies the history"),
    (checks.first_epoch_has_a_share, Late(), "the initial weights would be evaluated"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)
    assert all(run_check(check, A()).ok for check in checks.CHECKS)
