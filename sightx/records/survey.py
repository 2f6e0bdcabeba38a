"""What a dataset did not use, or is not sure of: shown by `init`, `validate --deep` and `run`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from sightx.errors import one_line


@dataclass(frozen=True)
class Note:
    """Files, folders, rows or columns of one sort, with an example.

    `singular` and `plural` name the sort. `is_used` is True for images that are samples although a
    reader may not expect it.
    """

    count: int
    singular: str
    plural: str
    example: str
    is_used: bool = False

    def __str__(self) -> str:
        used = "used" if self.is_used else "not used"
        if self.count == 1:
            return one_line(f"{used}: 1 {self.singular}: {self.example}")
        return one_line(f"{used}: {self.count:,} {self.plural}, such as {self.example}")


class Doubt(NamedTuple):
    """A likely mistake in the data, which is reported as a warning."""

    message: str
    hint: str


@dataclass(frozen=True)
class Survey:
    """The notes and the doubts about a dataset, in the order in which they were found."""

    notes: tuple[Note, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def lines(self) -> list[str]:
        """Return one line of text per note."""
        return [str(note) for note in self.notes]


class Surveyor:
    """Collect notes and doubts while a dataset looks at its files."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, bool], Note] = {}
        self._doubts: list[Doubt] = []

    def note(
        self, singular: str, plural: str, example: str, *, count: int = 1, is_used: bool = False
    ) -> None:
        """Count something that is not used, or with `is_used` something unexpected that is.

        `singular` and `plural` say what it is, such as "hidden file" and "hidden files". Notes with
        the same names are one note with the first example.
        """
        if not count:
            return
        key = plural, is_used
        before = self._notes.get(key, Note(0, singular, plural, example, is_used))
        self._notes[key] = replace(before, count=before.count + count)

    def doubt(self, message: str, hint: str) -> None:
        """Add a doubt."""
        self._doubts.append(Doubt(message, hint))

    def survey(self) -> Survey:
        """Return what was collected."""
        return Survey(tuple(self._notes.values()), tuple(self._doubts))
