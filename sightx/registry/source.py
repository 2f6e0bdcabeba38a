"""Where a class is written: its file and line, without parsing the file where that can be."""

from __future__ import annotations

import inspect
import re
import sys
from functools import cache
from pathlib import Path


def source_location(cls: type) -> str:
    """Return `file:line` of a class, or its module where there is no source."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file and (line := _line(file, cls)):
        return f"{file}:{line}"
    return cls.__module__


def _line(file: str, cls: type) -> int:
    """Return the line of a class; 0 where it is not in the file.

    `inspect` parses the whole file for each class; one line that can be the class needs no parser.
    """
    pattern = rf"^\s*class {re.escape(cls.__name__)}\b"
    found = [n for n, line in enumerate(_lines(file), 1) if re.match(pattern, line)]
    if len(found) < 2:
        return sum(found)
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 0


@cache
def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
