"""Cells of CSV files that a spreadsheet would take for formulas."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escape_cell(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: `=1+1` becomes `'=1+1`.

    Numbers, and what is not a text, stay. `unescape_cell` returns the cell as it was.
    """
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def unescape_cell(cell: str) -> str:
    """Return the text of a cell that `escape_cell` may have changed."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and not _NUMBER.fullmatch(text)


def csv_bytes(frame: pd.DataFrame, *, header: bool = True) -> bytes:
    """Return a data frame as CSV in UTF-8, with escaped texts and without its index."""
    texts = frame.select_dtypes(exclude=["number", "bool"])
    escaped = {str(name): column.map(escape_cell) for name, column in texts.items()}
    frame = frame.assign(**escaped).rename(columns=escape_cell)
    return frame.to_csv(index=False, header=header).encode()


def unescape_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the data frame that `csv_bytes` has written, read as texts or categories of them."""
    texts = frame.select_dtypes(include=["object", "string", "category"])
    plain = {str(name): column.map(unescape_cell) for name, column in texts.items()}
    return frame.assign(**plain).rename(columns=unescape_cell)
