from __future__ import annotations

import math

import pytest

from sightx.plugin import Checkpoint, Scheduler, Stopping
from sightx.testing import policies
from sightx.testing.demands import find


class S(Scheduler):
    """Fall as a test says."""

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
        history.epochs[0]["train/loss"] = 0.0
        return 1.0


class TwiceWarm(S):
    def factor(self, step, *, steps, steps_per_epoch, history):
        rising = self.warmup * steps_per_epoch
        return min(1.0, (step + 1) / rising) if rising else 1.0


class C(Checkpoint):
    """Keep what a test says."""

    name = "c"

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


class T(Stopping):
    """Stop as a test says."""

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


BROKEN = [
    (policies.rate_is_a_number, Logarithm(), "the factor at step 0 is inf"),
    (policies.rate_is_a_number, Below(), "return a finite float >= 0"),
    (policies.factor_is_pure, Shrinking(), "depends on what was asked before"),
    (policies.history_stays, Writing(), "changes the history"),
    (policies.warm_up_is_the_runners, TwiceWarm(), "depends on warmup"),
    (policies.names_are_names, Word(), "keep() returns 'best'"),
    (policies.names_are_names, Escaping(), "['../best'] is no name"),
    (policies.something_is_kept, Nothing(), "nothing is kept"),
    (policies.keep_is_pure, Counting(), "depends on what was asked before"),
    (policies.keep_is_pure, WritingToo(), "changes the history"),
    (policies.nan_is_never_kept, NanWins(), "an epoch of NaN is kept as ['best']"),
    (policies.reason_is_a_line, Yes(), "reason() returns True"),
    (policies.reason_is_a_line, Lines(), "return a line or None"),
    (policies.reason_is_pure, Waiting(), "depends on what was asked before"),
    (policies.reason_is_pure, WritingAsWell(), "changes the history"),
    (policies.nan_is_no_progress, NanIsProgress(), "bad epochs stop training"),
]


@pytest.mark.parametrize(("check", "broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, check, broken, words) -> None:
    caught(check, broken, words)


def test_the_table_of_broken_components_is_whole() -> None:
    every = {*policies.SCHEDULER, *policies.CHECKPOINT, *policies.STOPPING}
    assert {row[0] for row in BROKEN} == every


def test_the_components_that_were_broken_are_whole() -> None:
    kinds = ((policies.SCHEDULER, S()), (policies.CHECKPOINT, C()), (policies.STOPPING, T()))
    found = [find(check, whole) for checks, whole in kinds for check in checks]
    assert [str(finding) for finding in found if not finding.ok] == []
