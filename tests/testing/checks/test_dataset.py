from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sightx.plugin import Dataset, Problem, Traits
from sightx.testing import table
from sightx.testing.assertions import run_check
from sightx.testing.checks import dataset as checks


class InMemory(Dataset):
    """Behave as a test requires."""

    name = "world"

    def traits(self):
        return Traits(has_groups=True, has_split=True)

    def table(self):
        samples = table(18)
        return replace(samples, frame=self.changed(samples.frame), read=Reader())

    def changed(self, frame):
        return frame


class Reader:
    """Return the same image for every row."""

    def __call__(self, index):
        return np.zeros((4, 5, 3), np.uint8)


class Reading(InMemory):
    def traits(self):
        Path("labels.csv").read_text()
        return Traits()


class Raising(InMemory):
    def traits(self):
        raise ValueError("no traits")


class Refusing(InMemory):
    def check_headers(self):
        return [Problem("missing-column", "there is no column 'site'")]


class NoGroup(InMemory):
    def changed(self, frame):
        return frame.drop(columns="group")


class Empty(InMemory):
    def changed(self, frame):
        return frame.iloc[:0]


class Twice(InMemory):
    def changed(self, frame):
        return frame.assign(path="a.png")


class NumberedGroups(InMemory):
    def changed(self, frame):
        return frame.assign(group=7)


class OneClass(InMemory):
    def table(self):
        return replace(super().table(), classes=("a",))


class NamedLabels(InMemory):
    def changed(self, frame):
        return frame.assign(label="cat")


class FromOne(InMemory):
    def changed(self, frame):
        return frame.assign(label=frame["label"] + 1)


class OtherClasses(InMemory):
    def traits(self):
        return Traits(("a", "b", "c"), has_groups=True, has_split=True)


class Unordered(InMemory):
    def traits(self):
        return Traits(ordered=True, has_groups=True, has_split=True)


class Ungrouped(InMemory):
    def traits(self):
        return Traits(has_split=True)


class Unsplit(InMemory):
    def traits(self):
        return Traits(has_groups=True)


class WrongSplits(InMemory):
    def changed(self, frame):
        return frame.assign(split="train2")


class Shuffled(InMemory):
    def changed(self, frame):
        return frame.sample(frac=1).reset_index(drop=True)


class Flickering(InMemory):
    def table(self):
        def read(index):
            return np.random.default_rng().integers(0, 255, (4, 5, 3)).astype(np.uint8)

        return replace(super().table(), read=read)


class Grey(InMemory):
    def table(self):
        return replace(super().table(), read=lambda index: np.zeros((4, 5), np.uint8))


class Closing(InMemory):
    def table(self):
        return replace(super().table(), read=lambda index: np.zeros((4, 5, 3), np.uint8))


BROKEN = [
    (checks.traits_read_no_data, Reading(), "labels.csv; it must not read data"),
    (checks.traits_read_no_data, Raising(), "it raised ValueError: no traits"),
    (checks.table_is_valid, NoGroup(), "no column group"),
    (checks.table_is_valid, Empty(), "no rows"),
    (checks.table_is_valid, Twice(), "a path is not unique"),
    (checks.table_is_valid, NumberedGroups(), "group contains [7]"),
    (checks.table_is_valid, OneClass(), "at least two different names"),
    (checks.table_is_valid, NamedLabels(), "use int64 positions in classes"),
    (checks.table_is_valid, FromOne(), "labels are 1 to 3, but classes are 0 to 2"),
    (checks.traits_match_table, OtherClasses(), "traits() has classes = ('a', 'b', 'c')"),
    (checks.traits_match_table, Unordered(), "ordered = True, but in the table it is False"),
    (checks.traits_match_table, Ungrouped(), "has_groups = False, but in the table it is True"),
    (checks.traits_match_table, Unsplit(), "has_split = False, but in the table it is True"),
    (checks.traits_match_table, WrongSplits(), "the column split contains ['train2']"),
    (checks.table_is_deterministic, Shuffled(), "table() differs from call to call"),
    (checks.headers_are_accepted, Refusing(), "refuses what table() reads: "),
    (checks.images_are_readable, Flickering(), "read(0) differs from call to call"),
    (checks.images_are_readable, Grey(), "it raised"),
    (checks.images_are_readable, Closing(), "it cannot be pickled"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, InMemory()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
