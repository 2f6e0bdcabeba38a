"""The splits: as the dataset says, by shares, and as a file says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from sightx.plugin import SPLITS, DataError, File, Problem, Split, counted

from .stratify import Counts, assign_groups

if TYPE_CHECKING:
    import pandas as pd

    from sightx.plugin import ImageTable

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Given(Split):
    """Use the splits of the dataset."""

    name = "given"
    other_names = ("predefined", "PredefinedSplit", "existing", "fixed")
    uses_dataset_split = True

    validation: Fraction = 0.0
    """Fraction of the train split to use for validation if the dataset has no validation split,
    stratified by class; a group is never divided."""
    seed: int = 0
    """Seed of the shuffle for that."""

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the column `split` of the table. Raises DataError if there is none."""
        _refuse_empty(table)
        if "split" not in table.frame:
            hint = 'set split.use = "grouped" or "stratified"'
            problem = Problem("no-split", "the dataset has no split", hint)
            raise DataError(problem.at(table.source))
        column = table.frame["split"].astype(object)
        splits = column.where(column.notna(), "").astype(str).tolist()
        for row, split in enumerate(splits):
            _check_split(split, *table.place(row))
        if self.validation and "validation" not in splits:
            rows = [row for row, split in enumerate(splits) if split == "train"]
            shares = {"train": 1 - self.validation, "validation": self.validation}
            new = _assign_all(table, table.groups[rows], rows, shares, self.seed)
            for row, split in zip(rows, new, strict=True):
                splits[row] = split
        return _series(table, splits)


class Shares(Split):
    """Base of the splits that divide the samples by shares."""

    validation: Fraction = 0.1
    """Fraction of the samples for validation."""
    test: Fraction = 0.1
    """Fraction of the samples for testing."""
    seed: int = 0
    """Seed of the shuffle; it does not depend on the seed of the experiment."""

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> Shares:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self

    def empty(self) -> list[str]:
        """Return the splits whose share is 0."""
        return [split for split in SPLITS if split not in self._shares]

    @property
    def _shares(self) -> dict[str, float]:
        shares = (1 - self.validation - self.test, self.validation, self.test)
        return {split: share for split, share in zip(SPLITS, shares, strict=True) if share}

    def _assign(self, table: ImageTable, groups: Iterable[str]) -> pd.Series[str]:
        _refuse_empty(table)
        return _series(table, _assign_all(table, groups, slice(None), self._shares, self.seed))


class Stratified(Shares):
    """Divide the samples at random, with the same fraction of every class in each split.

    Groups are ignored: use `grouped` if several images show one patient, animal or place.
    """

    name = "stratified"
    other_names = ("random", "random_split", "train_test_split", "ShuffleSplit")
    ignores_groups = True

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the split of each row. Raises DataError for a class with too few samples."""
        return self._assign(table, table.frame["path"])


class Grouped(Shares):
    """Divide whole groups, with the same fraction of every class in each split.

    A sample without a group is the only one of its group.
    """

    name = "grouped"
    other_names = ("patient", "subject", "GroupShuffleSplit", "GroupKFold")

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the split of each row. Raises DataError for a class with too few groups."""
        return self._assign(table, table.groups)


class Listed(Shares):
    """Keep the split of a file, such as split.csv of a run, and divide only new groups.

    Listed samples keep their split, and new samples of their groups get the same one. Other new
    groups are divided as `grouped` does it, and go to the splits that have too few samples of
    their classes. Data can grow in this way while test results stay comparable. A class may be
    rare, because listed samples are not moved.
    """

    name = "listed"
    other_names = ("file", "from_file")

    file: File
    """CSV file with the columns path and split: train, validation, test, or empty to leave out."""

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the split of each row. Raises DataError, naming the line, for a wrong file."""
        _refuse_empty(table)
        listed = _read_splits(self.file)
        paths, groups = table.frame["path"].astype(str).tolist(), table.groups.tolist()
        old = {row: listed[path] for row, path in enumerate(paths) if path in listed}
        if not old:
            message = f"none of its {len(listed)} paths is in the dataset"
            hint = "its paths must be written as the dataset writes them"
            raise DataError(Problem("foreign-split", message, hint).at(str(self.file)))
        known = _group_splits(old, groups)
        splits = {row: known[group] for row, group in enumerate(groups) if group in known} | old
        new = [row for row in range(len(table)) if row not in splits]
        labels = table.labels
        counts = Counts((split, int(labels[row])) for row, split in splits.items())
        new_groups = [groups[row] for row in new]
        assigned = assign_groups(new_groups, labels[new], self._shares, self.seed, counts)
        splits |= dict(zip(new, assigned, strict=True))
        return _series(table, [splits[row] for row in range(len(table))])


def _read_splits(file: Path) -> dict[str, str]:
    """Return the split of each path in a CSV file."""
    from sightx.plugin import read_csv

    cells = read_csv(file, ["path", "split"])
    splits: dict[str, str] = {}
    for line, path, split in zip(cells.index, cells["path"], cells["split"], strict=True):
        if path in splits:
            problem = Problem("duplicate-row", f"{path!r} is there a second time", "delete a row")
            raise DataError(problem.at(str(file), line))
        _check_split(split, str(file), line)
        splits[path] = split
    return splits


def _group_splits(old: Mapping[int, str], groups: list[str]) -> dict[str, str]:
    """Return the split of each listed group; of several, train before validation before test."""
    splits: dict[str, str] = {}
    for name in (*SPLITS, ""):
        for row, split in old.items():
            if split == name:
                splits.setdefault(groups[row], name)
    return splits


def _assign_all(
    table: ImageTable,
    groups: Iterable[str],
    rows: slice | list[int],
    shares: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Return the splits of some rows. Raises DataError if a split gets none of a class."""
    groups, labels = list(groups), table.labels[rows]
    splits = assign_groups(groups, labels, shares, seed)
    present = set(zip(labels.tolist(), splits, strict=True))
    for label, name in enumerate(table.classes):
        if any((label, split) not in present for split in shares):
            members = [group for group, other in zip(groups, labels, strict=True) if other == label]
            counts = f"{counted(len(members), 'sample')} in {counted(len(set(members)), 'group')}"
            message = f"class {name!r} has {counts}: too few for {', '.join(shares)}"
            hint = "add some, remove the class, or set the share of a split to 0"
            raise DataError(Problem("rare-class", message, hint).at(table.source))
    return splits


def _series(table: ImageTable, splits: list[str]) -> pd.Series[str]:
    import pandas as pd

    return pd.Series(splits, index=table.frame.index, name="split", dtype="str")


def _refuse_empty(table: ImageTable) -> None:
    if not len(table):
        hint = "check whether the labels have rows, and what dataset.exclude removes"
        raise DataError(Problem("no-samples", "there are no samples", hint).at(table.source))


def _check_split(split: str, file: str, line: int) -> None:
    if split not in {*SPLITS, ""}:
        message = f"{split!r} is not the name of a split"
        hint = f"write {', '.join(SPLITS)}, or nothing to leave the row out"
        raise DataError(Problem("split-unknown", message, hint).at(file, line))
