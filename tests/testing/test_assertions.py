from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from time import monotonic
from typing import Any

import pytest

from sightx.plugin import call_declared
from sightx.testing.assertions import (
    CheckResult,
    require,
    require_picklable,
    require_pure,
    run_check,
)


def test_require_raises_its_message() -> None:
    require([1], "unseen")
    with pytest.raises(AssertionError, match="sort it"):
        require([], "sort it")


def test_require_picklable_refuses_a_lambda() -> None:
    require_picklable((1, "a"), "unseen")
    with pytest.raises(AssertionError, match=r"it cannot be pickled \(.*\); name it"):
        require_picklable(lambda: 1, "name it")


def fine_thing(subject: object) -> None:
    """Pass."""


def broken_thing(subject: int) -> None:
    require(subject > 1, "more\nthan one")
    raise ValueError("a\nb")


def test_a_result_is_one_line_whatever_was_raised() -> None:
    assert str(run_check(fine_thing, 1)) == "fine-thing: ok"
    assert run_check(broken_thing, 0) == CheckResult("broken-thing", False, "more than one")
    assert str(run_check(broken_thing, 2)) == "broken-thing: fails: it raised ValueError: a b"


def test_methods_get_the_arguments_that_they_declare() -> None:
    assert call_declared(lambda a, *, b: (a, b), 1, b=2, c=3) == (1, 2)


class Owner:
    """A class of this module, which has imported clocks by their names."""


CLOCKS: list[Callable[[int], Any]] = [
    lambda _: time.time() // 3600,
    lambda _: monotonic() // 3600,
    lambda _: datetime.datetime.now().day,
    lambda _: datetime.datetime.now(tz=datetime.UTC).day,
    lambda _: date.today(),
]


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_function_that_reads_a_clock_is_not_pure(clock: Callable[[int], Any]) -> None:
    with pytest.raises(AssertionError, match="pure; it depends on the clock"):
        require_pure(clock, [1, 2], "pure", Owner)


@pytest.mark.parametrize("clock", CLOCKS)
def test_other_threads_keep_their_time(clock: Callable[[int], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        require_pure(lambda _: pool.submit(clock, 0).result(), [1, 2], "unseen", Owner)


def test_a_function_that_counts_its_calls_is_not_pure() -> None:
    require_pure(abs, [-1, 2], "unseen", object)
    calls: list[int] = []
    with pytest.raises(AssertionError, match="depends on calls"):
        require_pure(lambda _: calls.append(0) or len(calls), [1, 2], "depends on calls", object)
