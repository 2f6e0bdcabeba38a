from __future__ import annotations

import itertools

import pytest

from sightx.plugin import Quality
from sightx.testing.assertions import run_check
from sightx.testing.checks import quality as checks

NUMBERS = itertools.count()


class A(Quality):
    """Behave as a test requires."""

    name = "a"

    def values(self):
        return {"light": "max"}

    def measure(self, image):
        return {"light": float(image.mean())}


class Up(A):
    def values(self):
        return {"light": "up"}


class Other(A):
    def measure(self, image):
        return {"dark": 0.5}


class Contrast(A):
    def measure(self, image):
        mean = float(image.mean())
        return {"light": float(image.std()) / mean if mean else float("nan")}


class Counting(A):
    def measure(self, image):
        return {"light": float(next(NUMBERS))}


class Writing(A):
    def measure(self, image):
        image[:] = 7
        return {"light": 7.0}


BROKEN = [
    (checks.measures_are_declared, Up(), "'up'} is not a direction"),
    (checks.measures_are_declared, Other(), "returns ['dark'], values() declares ['light']"),
    (checks.measures_are_declared, Contrast(), "is nan; return a finite float"),
    (checks.measure_is_deterministic, Counting(), "differs from call to call"),
    (checks.measure_is_deterministic, Writing(), "modifies the image"),
]


@pytest.mark.parametrize(
    ("check", "broken", "message"),
    BROKEN,
    ids=lambda value: getattr(value, "__name__", str(value)[:40]),
)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)
    assert all(run_check(check, A()).ok for check in checks.CHECKS)
