from __future__ import annotations

import pytest

from sightx.testing.demands import Finding, demand, demand_picklable, find, offer


def test_a_demand_is_an_assertion_with_a_way_out() -> None:
    demand([1], "unseen")
    with pytest.raises(AssertionError, match="sort it"):
        demand([], "sort it")


def test_what_is_picklable_can_be_sent_to_workers() -> None:
    demand_picklable((1, "a"), "unseen")
    with pytest.raises(AssertionError, match=r"it cannot be pickled \(.*\); name it"):
        demand_picklable(lambda: 1, "name it")


def fine_thing(subject: object) -> None:
    """Nothing to say."""


def odd_thing(subject: int) -> None:
    demand(subject > 1, "more\nthan one")
    raise ValueError("a\nb")


def test_a_finding_is_one_line_whatever_was_raised() -> None:
    assert str(find(fine_thing, 1)) == "fine-thing: ok"
    assert find(odd_thing, 0) == Finding("odd-thing", False, "more than one")
    assert str(find(odd_thing, 2)) == "odd-thing: fails: it raised ValueError: a b"


def test_methods_get_what_they_declare() -> None:
    assert offer(lambda a, *, b: (a, b), 1, b=2, c=3) == (1, 2)
