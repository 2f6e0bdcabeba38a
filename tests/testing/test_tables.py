from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sightx.plugin import Dataset, Sampler, Split, Traits
from sightx.testing import table, tables


class World(Dataset):
    """Give what a test says."""

    name = "world"

    def traits(self):
        return Traits(has_groups=True, has_split=True)

    def table(self):
        made = table(18)
        return replace(made, frame=self.changed(made.frame), read=Reader())

    def changed(self, frame):
        return frame


class Reader:
    """Return the same image for every row."""

    def __call__(self, index):
        return np.zeros((4, 5, 3), np.uint8)


class Reading(World):
    def traits(self):
        Path("labels.csv").read_text()
        return Traits()


class Raising(World):
    def traits(self):
        raise ValueError("no traits")


class NoGroup(World):
    def changed(self, frame):
        return frame.drop(columns="group")


class Empty(World):
    def changed(self, frame):
        return frame.iloc[:0]


class Twice(World):
    def changed(self, frame):
        return frame.assign(path="a.png")


class NumberedGroups(World):
    def changed(self, frame):
        return frame.assign(group=7)


class OneClass(World):
    def table(self):
        return replace(super().table(), classes=("a",))


class NamedLabels(World):
    def changed(self, frame):
        return frame.assign(label="cat")


class FromOne(World):
    def changed(self, frame):
        return frame.assign(label=frame["label"] + 1)


class OtherClasses(World):
    def traits(self):
        return Traits(("a", "b", "c"), has_groups=True, has_split=True)


class Unordered(World):
    def traits(self):
        return Traits(ordered=True, has_groups=True, has_split=True)


class Ungrouped(World):
    def traits(self):
        return Traits(has_split=True)


class Unsplit(World):
    def traits(self):
        return Traits(has_groups=True)


class OddSides(World):
    def changed(self, frame):
        return frame.assign(split="train2")


class Shuffled(World):
    def changed(self, frame):
        return frame.sample(frac=1).reset_index(drop=True)


class Flickering(World):
    def table(self):
        def read(index):
            return np.random.default_rng().integers(0, 255, (4, 5, 3)).astype(np.uint8)

        return replace(super().table(), read=read)


class Grey(World):
    def table(self):
        return replace(super().table(), read=lambda index: np.zeros((4, 5), np.uint8))


class Closing(World):
    def table(self):
        return replace(super().table(), read=lambda index: np.zeros((4, 5, 3), np.uint8))


class Third(Split):
    """Give every third sample, by its name, to validation."""

    name = "third"

    def assign(self, table):
        return pd.Series(["validation" if int(p[:4]) % 3 == 0 else "train" for p in self.of(table)])

    def of(self, table):
        return table.frame["path"]


class Missing(Third):
    def of(self, table):
        return table.frame["path"][1:]


class OddSide(Third):
    def assign(self, table):
        return super().assign(table).replace("validation", "val")


class NoTraining(Third):
    def assign(self, table):
        return super().assign(table).replace("train", "")


class WritingTable(Third):
    def assign(self, table):
        table.frame["label"] = 0
        return super().assign(table)


class Dice(Third):
    def assign(self, table):
        return pd.Series(np.random.default_rng().choice(["train", "test"], len(table)))


class ByPosition(Third):
    def assign(self, table):
        return pd.Series(["train", "test", "test"] * (len(table) // 3))


class Order(Sampler):
    """See what a test says."""

    name = "order"

    def order(self, labels, *, epoch, seed):
        return np.random.default_rng([seed, epoch]).permutation(len(labels))


class Beyond(Order):
    def order(self, labels, *, epoch, seed):
        return np.arange(len(labels)) + 1


class Floats(Order):
    def order(self, labels, *, epoch, seed):
        return np.arange(len(labels)) / 1


class Growing(Order):
    def order(self, labels, *, epoch, seed):
        return np.arange(epoch + 1)


class Sorting(Order):
    def order(self, labels, *, epoch, seed):
        labels.sort()
        return np.arange(len(labels))


class Stateful(Order):
    def order(self, labels, *, epoch, seed):
        return np.random.default_rng().permutation(len(labels))


class SameEveryEpoch(Order):
    def order(self, labels, *, epoch, seed):
        return super().order(labels, epoch=0, seed=seed)


class SameForEverySeed(Order):
    def order(self, labels, *, epoch, seed):
        return super().order(labels, epoch=epoch, seed=0)


BROKEN = [
    (tables.traits_need_no_data, Reading(), "labels.csv; it must say what is known"),
    (tables.traits_need_no_data, Raising(), "it raised ValueError: no traits"),
    (tables.rows_well_formed, NoGroup(), "no column group"),
    (tables.rows_well_formed, Empty(), "no rows"),
    (tables.rows_well_formed, Twice(), "a path stands twice"),
    (tables.rows_well_formed, NumberedGroups(), "group holds [7]"),
    (tables.rows_well_formed, OneClass(), "at least two different names"),
    (tables.rows_well_formed, NamedLabels(), "give positions in classes"),
    (tables.rows_well_formed, FromOne(), "labels go from 1 to 3, but classes from 0 to 2"),
    (tables.traits_tell_the_truth, OtherClasses(), "traits() says the classes ('a', 'b', 'c')"),
    (tables.traits_tell_the_truth, Unordered(), "ordered = True, the table False"),
    (tables.traits_tell_the_truth, Ungrouped(), "has_groups = False, the column group says True"),
    (tables.traits_tell_the_truth, Unsplit(), "has_split = False, the table has it"),
    (tables.traits_tell_the_truth, OddSides(), "the column split holds ['train2']"),
    (tables.table_repeats, Shuffled(), "table() differs from call to call"),
    (tables.images_can_be_read, Flickering(), "read(0) gives another image each time"),
    (tables.images_can_be_read, Grey(), "it raised"),
    (tables.images_can_be_read, Closing(), "it cannot be pickled"),
    (tables.every_row_gets_a_side, Missing(), "89 sides for 90 rows"),
    (tables.every_row_gets_a_side, OddSide(), "['val'] is no side"),
    (tables.every_row_gets_a_side, NoTraining(), "no row is on train"),
    (tables.every_row_gets_a_side, WritingTable(), "changes the table"),
    (tables.split_repeats, Dice(), "differs from call to call"),
    (tables.order_of_rows_is_free, ByPosition(), "decide by path or group"),
    (tables.positions_are_valid, Beyond(), "positions must lie in 0..32"),
    (tables.positions_are_valid, Floats(), "an array of integers"),
    (tables.positions_are_valid, Growing(), "epochs have [1, 2, 3] samples"),
    (tables.positions_are_valid, Sorting(), "read-only"),
    (tables.order_is_pure, Stateful(), "depends on what was asked before"),
    (tables.seed_and_epoch_matter, SameEveryEpoch(), "does not depend on epoch"),
    (tables.seed_and_epoch_matter, SameForEverySeed(), "does not depend on seed"),
]


@pytest.mark.parametrize(("check", "broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, check, broken, words) -> None:
    caught(check, broken, words)


def test_the_table_of_broken_components_is_whole() -> None:
    assert {row[0] for row in BROKEN} == {*tables.DATASET, *tables.SPLIT, *tables.SAMPLER}


def test_the_components_that_were_broken_are_whole() -> None:
    for check in tables.DATASET:
        check(World())
    for check in tables.SPLIT:
        check(Third())
    for check in tables.SAMPLER:
        check(Order())
