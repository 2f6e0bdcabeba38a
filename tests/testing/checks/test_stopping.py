from __future__ import annotations

from time import monotonic

import pytest

from sightx.plugin import Stopping
from sightx.testing.assertions import run_check
from sightx.testing.checks import stopping as checks

SEEN: list[int] = []
STARTED = monotonic()


class T(Stopping):
    """Behave as a test requires."""

    name = "t"

    def reason(self, history):
        series = history.series()
        best = -1 if series.best is None else series.best
        return "no progress" if len(series.values) - best > 3 else None


class Yes(T):
    def reason(self, history):
        return True


class Lines(T):
    def reason(self, history):
        return "a\nb" if len(history.epochs) > 10 else None


class Waiting(T):
    def reason(self, history):
        SEEN.append(0)
        return f"asked {len(SEEN)} times"


class WritingAsWell(T):
    def reason(self, history):
        history.epochs[-1].clear()


class NanIsProgress(T):
    def reason(self, history):
        values = history.series().values
        worse = [value < max(values[:at], default=0) for at, value in enumerate(values)]
        return "no progress" if len(worse) > 3 and all(worse[-3:]) else None


class OfTheDay(T):
    def reason(self, history):
        return "it is late" if monotonic() - STARTED > 3600 else None


BROKEN = [
    (checks.reason_is_pure, OfTheDay(), "depends on earlier calls; use history alone; it depends"),
    (checks.reason_is_one_line, Yes(), "reason() returns True"),
    (checks.reason_is_one_line, Lines(), "return one line or None"),
    (checks.reason_is_pure, Waiting(), "depends on earlier calls"),
    (checks.reason_is_pure, WritingAsWell(), "modifies the history"),
    (checks.nan_is_no_improvement, NanIsProgress(), "bad epochs stop training"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, T()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
