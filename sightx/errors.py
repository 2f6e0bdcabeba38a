"""All expected failures, and the exit code of each.

    SightXError                 70   raised itself, a bug in SightX
    ├── SpecError                2   a spec, an override or a command line is wrong
    ├── DataError                3   a table, an image or a label is wrong
    ├── PluginError              4   a plugin that is needed does not work
    ├── RunError                 5   a run directory or a checkpoint cannot be used
    ├── NonFiniteError           6   the loss or the weights are nan or infinite
    └── ResourceError            7   disk, memory, permission or a device is missing

An error has one or more `Problem` records. Each is printed as one line with the position, the
value, and a hint how to fix it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

LINE_LIMIT = 300
_LISTING_LIMIT = 12  # names that a hint lists
_CLOSE = 0.65  # similarity, 0 to 1: sdg and sgd have 0.67, placement and augment 0.63


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: Stable name of the kind of problem; `sightx validate --explain` explains it.
        message: What is wrong.
        hint: How to fix it; "" for none.
        path: Dotted key in a spec, such as `optimizer.lr`; "" for none.
        file: File, or the `--set` override; "" if unknown.
        line: Line in the file, counted from 1; 0 if unknown.
        column: Column, in characters, counted from 1; 0 if unknown.
        severity: A warning does not stop a command.
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
        """Return a copy with this position."""
        return replace(self, file=file, line=line, column=column)

    @property
    def place(self) -> str:
        """Return `file:line:column`, without the parts that are unknown."""
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.file, *numbers]) if self.file else ""

    def __str__(self) -> str:
        """Return one line of at most `LINE_LIMIT` characters; control characters are escaped."""
        place = f"{self.place}: " if self.place else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return _join_line(f"{place}{self.severity}[{self.code}] {path}", self.message, hint)


def did_you_mean(name: str, known: Iterable[object], count: int = 1) -> str:
    """Return a hint with the `count` known names that are closest to a misspelt one.

    Upper and lower case count as equal. If no name is close, the longest one whose words are words
    of the misspelt one is meant: cosine by CosineAnnealingLR. Returns "" if there is none.
    """
    import difflib  # only an error needs it

    names = {str(known_name).strip().lower(): str(known_name) for known_name in known}
    close = difflib.get_close_matches(name.strip().lower(), names, count, _CLOSE)
    if not close and len(words := _words(name)) > 1:
        inside = [key for key in names if len(key) > 1 and set() < _words(names[key]) <= words]
        close = sorted(inside, key=len)[-1:]
    return f"did you mean {' or '.join(repr(names[key]) for key in close)}?" if close else ""


def _words(name: str) -> set[str]:
    """Return the words of a name, which may be written as one-cycle, one_cycle or OneCycle."""
    words = re.findall(r"[A-Z]?[a-z]+\d*|[A-Z]+\d*(?![a-z])|\d+", name)
    return {word.lower() for word in words}


def suggest(name: str, known: Sequence[str]) -> str:
    """Return `did_you_mean`, followed by all known names if there are at most 12."""
    listing = f"known: {', '.join(known)}" if 0 < len(known) <= _LISTING_LIMIT else ""
    return " ".join(filter(None, [did_you_mean(name, known), listing]))


def one_line(text: str) -> str:
    """Return a text as one line of at most `LINE_LIMIT` characters; control characters escaped."""
    return _join_line("", text, "")


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: 1 run, 2 runs, 10,000 runs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def wrong_type(name: str, value: object, expected: str, hint: str = "") -> SpecError:
    """Return the error for a value of the wrong type in a call; `name` is that of the argument."""
    given = f"{one_line(repr(value))[:60]} ({type(value).__name__})"
    return SpecError(Problem("wrong-type", f"{name} is {given}, expected {expected}", hint))


def _join_line(head: str, message: str, hint: str) -> str:
    """Join the parts of a line; a line that is too long loses the end of its message first."""
    head, message, hint = (printable(part) for part in (head, message, hint))
    room = max(LINE_LIMIT - len(head) - len(hint), 20)
    if len(message) > room:
        message = message[: room - 3] + "..."
    return (head + message + hint)[:LINE_LIMIT]


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or the name of its class if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]


def without_codes(text: str) -> str:
    """Return printed problems without their codes, where only the reasons matter."""
    return re.sub(r"error\[[a-z-]+\] ", "", text)


def printable(text: str) -> str:
    """Return a text with control characters escaped, so that a terminal does not interpret them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SightXError(Exception):
    """Base class of all expected failures."""

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
    """The loss or the weights are nan or infinite."""

    exit_code = 6


class ResourceError(SightXError):
    """Disk, memory, permission or a device is missing."""

    exit_code = 7


def missing_extra(module: str, extra: str) -> PluginError:
    """Return the error for a library of an extra of SightX that is not installed."""
    hint = f'pip install "sightx[{extra}]"'
    return PluginError(Problem("missing-extra", f"{module} is not installed", hint))
