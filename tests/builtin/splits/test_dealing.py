from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx.builtin.splits import dealing

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}

groups = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=40)


class Member(NamedTuple):
    row: int
    group: str
    label: int


def deal(members, shares, seed, held=None) -> dict[int, str]:
    """Return the side of each row."""
    labels = np.array([member.label for member in members])
    sides = dealing.deal([member.group for member in members], labels, shares, seed, held)
    return {member.row: side for member, side in zip(members, sides, strict=True)}


def members_of(contents: list[list[int]]) -> list[Member]:
    pairs = [(str(group), label) for group, labels in enumerate(contents) for label in labels]
    return [Member(row, group, label) for row, (group, label) in enumerate(pairs)]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(groups, st.randoms(use_true_random=False))
def test_groups_stay_whole_whatever_the_order_of_rows(
    contents: list[list[int]], shuffler: random.Random
) -> None:
    members = members_of(contents)
    sides = deal(members, SHARES, 0)
    homes = {member.group: sides[member.row] for member in members}
    assert sides == {member.row: homes[member.group] for member in members}
    shuffler.shuffle(members)
    assert deal(members, SHARES, 0) == sides


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 200), min_size=1, max_size=6), st.integers(0, 3))
def test_single_samples_miss_their_share_by_one_at_most(numbers: list[int], seed: int) -> None:
    members = members_of([[label] for label, number in enumerate(numbers) for _ in range(number)])
    sides = deal(members, SHARES, seed)
    counts = Counter((member.label, sides[member.row]) for member in members)
    for label, number in enumerate(numbers):
        for side, share in SHARES.items():
            assert abs(counts[label, side] - share * number) < 1.5
            assert counts[label, side] >= 1


def test_a_rare_class_reaches_every_side_through_mixed_groups() -> None:
    # Class 0 is in three groups, each shared with class 1: only one way serves all sides.
    members = members_of([[0, 1], [0, 1], [0, 1], [1], *[[2]] * 50])
    for seed in range(20):
        sides = deal(members, SHARES, seed)
        for label in range(3):
            assert {sides[m.row] for m in members if m.label == label} == set(SHARES)


def test_a_large_group_goes_to_the_side_with_room_for_it() -> None:
    members = members_of([[0] * 40, [0] * 20, *[[0]] * 40])
    sides = deal(members, SHARES, 0)
    assert (sides[0], sides[40]) == ("train", "test")
    assert Counter(sides.values()) == {"train": 70, "validation": 10, "test": 20}


@pytest.mark.parametrize("seed", range(5))
def test_kinds_of_groups_are_shared_out_as_well(seed: int) -> None:
    """Pairs that agree and pairs that do not come to each side in proportion."""
    kinds = [[0, 0]] * 400 + [[0, 1]] * 100 + [[1, 1]] * 200
    members = members_of(kinds)
    sides = deal(members, SHARES, seed)
    homes = Counter((tuple(kinds[int(m.group)]), sides[m.row]) for m in members)
    for kind, number in ((0, 0), 400), ((0, 1), 100), ((1, 1), 200):
        for side, share in SHARES.items():
            assert abs(homes[kind, side] / 2 - share * number) <= 2


def test_what_a_side_holds_already_is_counted() -> None:
    members = members_of([[0]] * 10)
    held = Counter({("train", 0): 70, ("validation", 0): 10, ("test", 0): 10})
    assert set(deal(members, SHARES, 0, held).values()) == {"test"}


def test_the_seed_decides_who_of_many_alike_goes_where() -> None:
    members = members_of([[0]] * 200)
    tested = [
        {row for row, side in deal(members, SHARES, seed).items() if side == "test"}
        for seed in range(2)
    ]
    # Of 40 out of 200, 8 are expected to meet, with a deviation of 2.3.
    assert len(tested[0] & tested[1]) < 8 + 5 * 2.3


def test_the_split_of_today_is_the_split_of_tomorrow() -> None:
    """Who has split once must get the same again from any later version."""
    members = [Member(row, f"patient-{row // 2}", row % 3) for row in range(24)]
    sides = deal(members, {"train": 0.5, "validation": 0.25, "test": 0.25}, 7)
    letters = {"train": ".", "validation": "v", "test": "t"}
    assert "".join(letters[sides[row]] for row in range(0, 24, 2)) == "..t...tt.vvv"
