from __future__ import annotations

import pytest

from sightx.plugin import Checkpoint
from sightx.testing.assertions import run_check
from sightx.testing.checks import checkpoint as checks

SEEN: list[int] = []


class C(Checkpoint):
    """Behave as a test requires."""

    name = "c"
    best_name = "best"

    def keep(self, history):
        series = history.series()
        return {"best"} if series.best == len(series.values) - 1 else set()


class Word(C):
    def keep(self, history):
        return "best"


class Escaping(C):
    def keep(self, history):
        return {"../best"}


class Nothing(C):
    def keep(self, history):
        return ()


class OtherBest(C):
    best_name = "best-of-all"


class Counting(C):
    def keep(self, history):
        SEEN.append(0)
        return {f"kept-{len(SEEN)}"}


class WritingToo(C):
    def keep(self, history):
        history.epochs[-1]["train/loss"] = 7.0
        return {"last"}


class NanWins(C):
    def keep(self, history):
        *before, last = history.series().values
        return set() if last < max(before, default=0) else {"best"}


BROKEN = [
    (checks.names_are_valid, Word(), "keep() returns 'best'"),
    (checks.names_are_valid, Escaping(), "['../best'] is not a name"),
    (checks.some_epoch_is_kept, Nothing(), "nothing is kept"),
    (checks.some_epoch_is_kept, OtherBest(), "best_name is 'best-of-all', but keep() never"),
    (checks.keep_is_pure, Counting(), "depends on earlier calls"),
    (checks.keep_is_pure, WritingToo(), "modifies the history"),
    (checks.nan_is_never_kept, NanWins(), "an epoch of NaN is kept as ['best']"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, C()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
