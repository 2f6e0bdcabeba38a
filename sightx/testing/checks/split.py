"""Checks of splits."""

from __future__ import annotations

from sightx.plugin import SPLITS, Split
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.fixtures import table


def every_row_is_assigned(split: Split) -> None:
    """Require a valid split name for each row, and some training samples."""
    rows = table()
    before = rows.frame.copy()
    assigned = split.assign(rows)
    require(
        len(assigned) == len(rows),
        f"{len(assigned)} splits for {len(rows)} rows; return one per row",
    )
    invalid = sorted({str(name) for name in assigned} - {*SPLITS, ""})
    require(not invalid, f"{invalid} is not a split; use train, validation, test or ''")
    require((assigned == "train").any(), "no row is in train")
    require(rows.frame.equals(before), "assign() modifies the table; work on a copy")


def assign_is_deterministic(split: Split) -> None:
    """Require the same splits each time."""
    require(
        list(split.assign(table())) == list(split.assign(table())),
        "assign() differs from call to call; draw from generator(self.seed, ...)",
    )


def row_order_does_not_matter(split: Split) -> None:
    """Require that the split of a sample does not depend on its position in the table."""
    import numpy as np

    rows = table()
    reverse = rows.take(np.arange(len(rows))[::-1].copy())
    one, two = (
        dict(zip(rows.frame["path"], split.assign(rows), strict=True)) for rows in (rows, reverse)
    )
    require(
        one == two,
        "samples change splits if rows are reordered; decide by path or group, not by position",
    )


CHECKS: tuple[ContractCheck, ...] = (
    every_row_is_assigned, assign_is_deterministic, row_order_does_not_matter,
)  # fmt: skip
