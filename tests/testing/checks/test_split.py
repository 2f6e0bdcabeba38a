from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sightx.plugin import Split
from sightx.testing.assertions import run_check
from sightx.testing.checks import split as checks


class Third(Split):
    """Put every third sample, by its name, in the validation split."""

    name = "third"

    def assign(self, table):
        return pd.Series(["validation" if int(p[:4]) % 3 == 0 else "train" for p in self.of(table)])

    def of(self, table):
        return table.frame["path"]


class Missing(Third):
    def of(self, table):
        return table.frame["path"][1:]


class WrongName(Third):
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


BROKEN = [
    (checks.every_row_is_assigned, Missing(), "89 splits for 90 rows"),
    (checks.every_row_is_assigned, WrongName(), "['val'] is not a split"),
    (checks.every_row_is_assigned, NoTraining(), "no row is in train"),
    (checks.every_row_is_assigned, WritingTable(), "modifies the table"),
    (checks.assign_is_deterministic, Dice(), "differs from call to call"),
    (checks.row_order_does_not_matter, ByPosition(), "decide by path or group"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, Third()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
