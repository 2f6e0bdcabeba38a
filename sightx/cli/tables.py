"""Tables of runs on a terminal, and the texts of their cells."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime

import click

from sightx.errors import printable
from sightx.run_registry.summary import CONTENT

_GAP, _PIPED_WIDTH, _MAX_CELL = 2, 160, 40
_HASH_LENGTH = 12
_UNITS = (("d", 86400), ("h", 3600), ("m", 60))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, fit: bool = True) -> int:
    """Print rows below a header, with aligned columns; return how many columns did not fit.

    With `fit`, columns at the right that are wider than the terminal are left out.
    """
    lines = [[_cut(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = _fitting(widths) if fit else len(widths)
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line[:shown], widths, strict=False))
        click.echo((" " * _GAP).join(cells).rstrip())
    return len(widths) - shown


def _fitting(widths: Sequence[int]) -> int:
    """Return how many columns fit, at least one."""
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH
    total, shown = -_GAP, 0
    for width in widths:
        total += width + _GAP
        if total > room and shown:
            break
        shown += 1
    return shown


def _cut(cell: str) -> str:
    cell = printable(cell)
    return cell if len(cell) <= _MAX_CELL else f"{cell[: _MAX_CELL - 3]}..."


def cell_text(key: str, value: object) -> str:
    """Return a value as a cell shows it: metrics with four digits, times in words."""
    if value is None:
        return "-"
    if key == "seconds" and isinstance(value, int | float):
        return duration_text(value)
    if key == "started" and isinstance(value, str):
        return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M")
    if key.endswith(CONTENT):
        return str(value)[:_HASH_LENGTH]
    if isinstance(value, float):
        return f"{value:.4f}" if "/" in key else f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def duration_text(seconds: float) -> str:
    """Return a duration with its two largest units: 41s, 2m 5s, 3h 20m."""
    rest = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        if rest >= size or parts:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    parts.append(f"{rest}s")
    return " ".join(part for part in parts[:2] if not part.startswith("0") or len(parts) == 1)
