"""What is wrong with a table of samples: all of it is reported at once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from sightx.errors import DataError, Problem, counted

if TYPE_CHECKING:
    from sightx.records.table import ImageTable

_Table = TypeVar("_Table", "ImageTable", None)
_LISTED = 5  # problems of one code; more would hide the other ones


class IncompleteTableError(DataError):
    """Some rows of a table are wrong. A run refuses it, `sightx audit` looks at the other rows.

    Attributes:
        table: The table of the rows that are right; None if there are none.
        rows: The number of rows that each of `problems` is about.
    """

    table: ImageTable | None = None
    rows: tuple[int, ...] = ()


class Faults:
    """Collects what is wrong with the rows of a table, while the other rows are read."""

    def __init__(self) -> None:
        self._faults: list[tuple[Problem, int]] = []

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._faults)

    def add(self, problem: Problem, rows: int = 1) -> None:
        """Add a problem of some rows."""
        self._faults.append((problem, rows))

    def collect(self, load: Callable[[], ImageTable]) -> ImageTable:
        """Return a table; if `load` raises IncompleteTableError, keep its problems.

        The table is then that of the rows that are right. Raises the error if there are none.
        """
        try:
            return load()
        except IncompleteTableError as error:
            self._faults += zip(error.problems, error.rows, strict=True)
            if error.table is None:
                raise
            return error.table

    def refuse(self, table: _Table) -> _Table:
        """Return a table of the rows that are right; raise IncompleteTableError if not all are."""
        by_code = defaultdict[str, list[tuple[Problem, int]]](list)
        for problem, rows in self._faults:
            by_code[problem.code].append((problem, rows))
        listed = [pair for faults in by_code.values() for pair in _shortened(faults)]
        listed.sort(key=lambda pair: pair[0].line or math.inf)  # otherwise as they were found
        if listed:
            error = IncompleteTableError(*(problem for problem, _ in listed))
            error.rows = tuple(rows for _, rows in listed)
            error.table = table if table is not None and len(table) else None
            raise error
        return table


def allow_empty_classes(load: Callable[[], ImageTable]) -> ImageTable:
    """Return a table to score, in which a class without samples is no fault.

    Raises IncompleteTableError if `load` does and anything else is wrong, or there are no samples.
    """
    try:
        return load()
    except IncompleteTableError as error:
        if error.table is None or any(one.code != "empty-class" for one in error.problems):
            raise
        return error.table


def _shortened(faults: list[tuple[Problem, int]]) -> list[tuple[Problem, int]]:
    """Return the first faults of a code; the last one counts the rows of those left out."""
    shown, more = faults[:_LISTED], sum(rows for _, rows in faults[_LISTED:])
    if more:
        problem, rows = shown[-1]
        message = f"{problem.message}; {counted(more, 'other row')} like it"
        shown[-1] = replace(problem, message=message), rows + more
    return shown
