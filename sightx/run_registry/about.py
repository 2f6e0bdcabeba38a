"""Tags and a note: `about.json`, the only file of a run that people change later."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightx.errors import Problem, SpecError
from sightx.io import atomic
from sightx.io.files import is_unicode, read_json
from sightx.io.locks import file_lock

FILE = "about.json"
_LOCK = ".writing-about.lock"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class About:
    """What people say about a run."""

    tags: tuple[str, ...] = ()
    note: str = ""


def read_about(directory: Path) -> About:
    """Return the tags and the note of a run; a damaged file counts as empty."""
    about = read_json(directory / FILE)
    tags = about.get("tags")
    tags = tags if isinstance(tags, list) else []
    return About(tuple(map(str, tags)), str(about.get("note", "")))


def change_about(directory: Path, changes: Sequence[str], note: str | None = None) -> About:
    """Add and remove tags, `+candidate` and `-old`, and perhaps replace the note.

    A change without a sign adds a tag. It needs no lock of the run: a run that trains can be
    tagged. Raises SpecError for what cannot be a tag, ResourceError if the file cannot be written.
    """
    parsed = [
        (text[:1] == "-", text.lstrip("+-") if text[:1] in "+-" else text) for text in changes
    ]
    for _, tag in parsed:
        if not _TAG.fullmatch(tag):
            hint = "letters, digits, `.`, `_` and `-`, at most 64"
            raise SpecError(Problem("usage", f"{tag[:70]!r} cannot be a tag", hint))
    if not is_unicode(note or ""):
        raise SpecError(Problem("usage", "the note is not UTF-8", "write it in UTF-8"))
    with atomic.disk_errors(directory), file_lock(directory / _LOCK):
        about = read_about(directory)
        tags = dict.fromkeys(about.tags)
        for is_removed, tag in parsed:
            if is_removed:
                tags.pop(tag, None)
            else:
                tags[tag] = None
        new = About(tuple(sorted(tags)), about.note if note is None else note)
        value = {"tags": list(new.tags), "note": new.note}
        atomic.replace(directory / FILE, f"{json.dumps(value, indent=1)}\n".encode())
    return new
