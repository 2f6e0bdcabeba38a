"""Every failure that SightX expects, and the exit code of each.

    SightXError                 70   a bug of ours, if it is raised bare
    ├── SpecError                2   a spec, an override or a command line is wrong
    ├── DataError                3   a table, an image or a label is wrong
    ├── PluginError              4   a plugin that is needed does not work
    ├── RunError                 5   a run directory or a checkpoint cannot be used
    ├── NonFiniteError           6   training left the finite numbers
    └── ResourceError            7   disk, memory, permission, device

An error carries one or more `Problem` records: each is one line that names the place, the
value and the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

LINE_LIMIT = 300
_LISTING_LIMIT = 12  # names that a hint lists


@dataclass(frozen=True)
class Problem:
    """Describe one thing that is wrong, at its place.

    `code` is stable and never reworded; `path` is the dotted key in a spec; `line` and
    `column` count from 1, 0 means unknown.
    """

    code: str
    message: str
    hint: str = ""
    path: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    severity: Literal["error", "warning"] = "error"

    def at(self, file: str, line: int = 0, column: int = 0) -> Problem:
        """Return the same problem with its place set."""
        return replace(self, file=file, line=line, column=column)

    @property
    def place(self) -> str:
        """Return `file:line:column`, as far as it is known."""
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.file, *numbers]) if self.file else ""

    def __str__(self) -> str:
        """Return the one line, control characters escaped, at most `LINE_LIMIT` characters."""
        place = f"{self.place}: " if self.place else ""
        path = f"{self.path}: " if self.path else ""
        head = f"{place}{self.severity}[{self.code}] {path}"
        tail = f"; {self.hint}" if self.hint else ""
        return _one_line(head, self.message, tail)


def did_you_mean(name: str, known: Iterable[object], count: int = 1) -> str:
    """Return a hint with the `count` known names that are closest to a misspelt one.

    Upper and lower case count as equal. Returns "" if no known name is close.
    """
    import difflib  # only an error needs it

    names = {str(known_name).strip().lower(): str(known_name) for known_name in known}
    close = difflib.get_close_matches(name.strip().lower(), names, count)
    return f"did you mean {' or '.join(repr(names[key]) for key in close)}?" if close else ""


def suggest(name: str, known: Sequence[str]) -> str:
    """Return `did_you_mean`, followed by all known names if there are at most 12."""
    listing = f"known: {', '.join(known)}" if 0 < len(known) <= _LISTING_LIMIT else ""
    return " ".join(filter(None, [did_you_mean(name, known), listing]))


def one_line(text: str) -> str:
    """Return a text as one line of at most `LINE_LIMIT` characters, control characters escaped."""
    return _one_line("", text, "")


def _one_line(head: str, message: str, tail: str) -> str:
    """Join the parts; when too long, shorten the message first: the place and the way out stay."""
    head, message, tail = (_printable(part) for part in (head, message, tail))
    room = max(LINE_LIMIT - len(head) - len(tail), 20)
    if len(message) > room:
        message = message[: room - 3] + "..."
    return (head + message + tail)[:LINE_LIMIT]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SightXError(Exception):
    """Base of every expected failure."""

    exit_code: ClassVar[int] = 70

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class SpecError(SightXError):
    """A spec, an override or a command line is wrong."""

    exit_code = 2


class DataError(SightXError):
    """A table, an image or a label is wrong."""

    exit_code = 3


class PluginError(SightXError):
    """A plugin that is needed does not work."""

    exit_code = 4


class RunError(SightXError):
    """A run directory or a checkpoint cannot be used."""

    exit_code = 5


class NonFiniteError(SightXError):
    """Training left the finite numbers."""

    exit_code = 6


class ResourceError(SightXError):
    """Disk, memory, permission or a device is missing."""

    exit_code = 7
