"""The split that goes on from a former one."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sightx.plugin import DataError, File, Problem, did_you_mean

from .dealing import Counts, deal
from .fresh import SIDES, Shares, refuse_empty, series, unknown_side

if TYPE_CHECKING:
    import pandas as pd

    from sightx.plugin import ImageTable


class Listed(Shares):
    """Keep the split of a file, such as a former run's split.csv, and deal what is new.

    What is in the file stays where it is, and so do new samples of its groups; all other new groups
    are dealt like `grouped`, to the sides that have too little of their classes. So data may grow
    while test figures stay comparable. (A hash of the group would also keep it in place, but meets
    the shares on average only.) No class is refused for being rare: what is listed is decided.
    """

    name = "listed"

    file: File
    """A CSV with the columns path and split: train, validation, test, or empty for left out."""

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return the sides. Raises DataError, naming file and line, for a file that is wrong."""
        refuse_empty(table)
        listed = _read(self.file)
        paths, groups = table.frame["path"].astype(str).tolist(), table.groups.tolist()
        old = {row: listed[path] for row, path in enumerate(paths) if path in listed}
        if not old:
            message = f"none of its {len(listed)} paths is in the dataset"
            hint = "its paths must be written as the dataset writes them"
            raise DataError(Problem("foreign-split", message, hint).at(str(self.file)))
        homes = _homes(old, groups)
        sides = {row: homes[group] for row, group in enumerate(groups) if group in homes} | old
        new = [row for row in range(len(table)) if row not in sides]
        labels = table.labels.tolist()
        held = Counts((side, labels[row]) for row, side in sides.items())
        known = [groups[row] for row in new]
        dealt = deal(known, table.labels[new], self._shares, self.seed, held)
        sides |= dict(zip(new, dealt, strict=True))
        return series(table, [sides[row] for row in range(len(table))])


def _homes(old: Mapping[int, str], groups: list[str]) -> dict[str, str]:
    """Return the side of each known group; of several, train before validation before test."""
    homes: dict[str, str] = {}
    for home in (*SIDES, ""):
        for row, side in old.items():
            if side == home:
                homes.setdefault(groups[row], home)
    return homes


def _read(file: Path) -> dict[str, str]:
    """Return the side of each path in a CSV."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), restval="(nothing)")
        return _sides(file, rows)
    except OSError as error:
        raise DataError(Problem("no-file", error.strerror or str(error)).at(str(file))) from error
    except (csv.Error, UnicodeDecodeError) as error:
        hint = "save it as CSV in UTF-8"
        raise DataError(Problem("bad-csv", str(error), hint).at(str(file))) from error


def _sides(file: Path, rows: csv.DictReader[str]) -> dict[str, str]:
    _require(["path", "split"], list(rows.fieldnames or []), file)
    sides: dict[str, str] = {}
    for row in rows:
        path, side = row["path"], row["split"]
        if path in sides:
            problem = Problem("duplicate-path", f"{path!r} is there a second time", "delete a row")
            raise DataError(problem.at(str(file), rows.line_num))
        if side not in {*SIDES, ""}:
            raise DataError(unknown_side(side).at(str(file), rows.line_num))
        sides[path] = side
    return sides


def _require(columns: list[str], found: list[str], file: Path) -> None:
    problems = []
    for column in [column for column in columns if column not in found]:
        hint = did_you_mean(column, found) or f"its columns are {', '.join(found)}"
        problem = Problem("missing-column", f"there is no column {column!r}", hint)
        problems.append(problem.at(str(file), 1))
    if problems:
        raise DataError(*problems)
