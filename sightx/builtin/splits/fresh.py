"""Splits that know of no former one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from sightx.plugin import DataError, Problem, Split

from .dealing import deal

if TYPE_CHECKING:
    import pandas as pd

    from sightx.plugin import ImageTable

SIDES = ("train", "validation", "test")
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Given(Split):
    """Use the split that the dataset brings."""

    name = "given"
    uses_dataset_split = True

    validation: Fraction = 0.0
    """The share of the training side to validate with, if the dataset has no validation side:
    stratified by class, no group on both sides."""
    seed: int = 0
    """What the shuffle of the validation side depends on."""

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the column `split` of the table. Raises DataError if there is none."""
        refuse_empty(table)
        if "split" not in table.frame:
            hint = 'say split.use = "grouped" or "stratified"'
            problem = Problem("no-split", "the dataset brings no split", hint)
            raise DataError(problem.at(table.source))
        column = table.frame["split"].astype(object)
        sides = column.where(column.notna(), "").astype(str).tolist()
        for row, side in enumerate(sides):
            if side not in {*SIDES, ""}:
                raise DataError(unknown_side(side).at(table.source, table.line(row)))
        if self.validation and "validation" not in sides:
            training = [row for row, side in enumerate(sides) if side == "train"]
            shares = {"train": 1 - self.validation, "validation": self.validation}
            dealt = _deal_all(table, table.groups[training], training, shares, self.seed)
            for row, side in zip(training, dealt, strict=True):
                sides[row] = side
        return series(table, sides)


class Shares(Split):
    """Deal samples to sides by shares."""

    validation: Fraction = 0.1
    """The share of the samples to validate with."""
    test: Fraction = 0.1
    """The share of the samples to test with."""
    seed: int = 0
    """What the shuffle depends on; never the experiment's."""

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> Shares:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self

    def empty(self) -> list[str]:
        """Return the sides without a share."""
        return [side for side in SIDES if side not in self._shares]

    @property
    def _shares(self) -> dict[str, float]:
        shares = (1 - self.validation - self.test, self.validation, self.test)
        return {side: share for side, share in zip(SIDES, shares, strict=True) if share}

    def _assign(self, table: ImageTable, groups: Iterable[str]) -> pd.Series[str]:
        refuse_empty(table)
        rows = slice(None)  # all
        return series(table, _deal_all(table, groups, rows, self._shares, self.seed))


class Stratified(Shares):
    """Deal samples at random, the same share of every class to each side.

    Groups are not looked at: use `grouped` where several images show one patient, animal or place.
    """

    name = "stratified"
    ignores_groups = True

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the sides. Raises DataError for a class with fewer samples than sides."""
        return self._assign(table, table.frame["path"])


class Grouped(Shares):
    """Deal whole groups, the same share of every class to each side.

    A sample without a group stands alone.
    """

    name = "grouped"

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the sides. Raises DataError for a class with fewer groups than sides."""
        return self._assign(table, table.groups)


def _deal_all(
    table: ImageTable,
    groups: Iterable[str],
    rows: slice | list[int],
    shares: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Return the sides of rows of these groups. Raises DataError if a class is not on every one."""
    groups, labels = list(groups), table.labels[rows]
    sides = deal(groups, labels, shares, seed)
    found = set(zip(labels.tolist(), sides, strict=True))
    for label, name in enumerate(table.classes):
        if any((label, side) not in found for side in shares):
            alike = [group for group, its in zip(groups, labels, strict=True) if its == label]
            have = f"{_count(len(alike), 'sample')} in {_count(len(set(alike)), 'group')}"
            message = f"class {name!r} has {have}: too few for {', '.join(shares)}"
            hint = "add some, or leave out the class or a side"
            raise DataError(Problem("rare-class", message, hint).at(table.source))
    return sides


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def series(table: ImageTable, sides: list[str]) -> pd.Series[str]:
    """Return the sides in the order of the table."""
    import pandas as pd

    return pd.Series(sides, index=table.frame.index, name="split", dtype="str")


def refuse_empty(table: ImageTable) -> None:
    """Raise DataError for a table without samples."""
    if not len(table):
        hint = "see whether the labels' file has rows, and what `exclude` takes away"
        raise DataError(Problem("empty-table", "there is no sample", hint).at(table.source))


def unknown_side(side: str) -> Problem:
    """Return what is wrong about a side that is none."""
    hint = f"known are {', '.join(SIDES)}, and empty for left out"
    return Problem("unknown-split", f"{side!r} is no side of a split", hint)
