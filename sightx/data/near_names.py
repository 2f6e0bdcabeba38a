"""The files that names in a table most likely mean, if there are no files of those names."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from sightx.data.decode.formats import is_image_name

_MAX_FILES = 200_000  # that are compared with names
_HIDDEN = (".", "__", "@eaDir", "$")  # how folders of operating systems begin
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


def _unescaped(name: str) -> str:
    return unquote(name) if _ESCAPE.search(name) else name


# What may differ between a name and a file, with the function that removes the difference.
_FORMS: dict[str, Callable[[str], str]] = {
    "percent escapes": _unescaped,
    "the Unicode form": lambda name: unicodedata.normalize("NFKC", name),
    "upper and lower case": str.casefold,
    "blanks": lambda name: " ".join(name.split()),
}


class Change(NamedTuple):
    """What turns names into those of files: a prefix that goes, a folder and a suffix that come."""

    strip_prefix: str = ""
    folder: str = ""
    suffix: str = ""


class FileIndex:
    """The visible files below a folder, by the ends of their paths."""

    def __init__(self, root: Path) -> None:
        self._paths = defaultdict[str, list[str]](list)
        for path in _files(root):
            name = posixpath.basename(path)
            for key in {name, posixpath.splitext(name)[0] if is_image_name(name) else name}:
                self._paths[key].append(path)

    def find(self, name: str) -> list[str]:
        """Return the paths, relative to the folder, of the files that a name may mean.

        That is the file of this path, else all whose paths end with the name, else all images
        whose paths end with the name and an ending.
        """
        name = posixpath.normpath(name)
        paths, end = self._paths.get(posixpath.basename(name), []), f"/{name}"
        if name in paths:
            return [name]
        with_ending = [path for path in paths if f"/{path}".endswith(end)]
        return with_ending or [
            path for path in paths if f"/{posixpath.splitext(path)[0]}".endswith(end)
        ]


def nearest_files(root: Path, names: Collection[str]) -> dict[str, str]:
    """Return the path below a folder of the file whose name differs from each name only in form.

    Upper and lower case, blanks, backslashes, percent escapes, the ending, the Unicode form and the
    folders above may differ. Of several such files the one counts that shares the most folders; a
    name for which that is not one file is left out.
    """
    files = defaultdict[str, list[tuple[str, list[str]]]](list)
    for path in islice(_files(root), _MAX_FILES) if names else ():
        parts = _normalised(path)
        for key in {parts[-1], _stem(parts[-1])}:
            files[key].append((path, parts))
    nearest = {name: _nearest(_normalised(name), files) for name in names}
    return {name: path for name, path in nearest.items() if path}


def _nearest(parts: list[str], files: Mapping[str, list[tuple[str, list[str]]]]) -> str:
    scores: dict[str, tuple[int, bool]] = {}
    for key in {parts[-1], _stem(parts[-1])}:
        for path, candidate in files.get(key, ()):
            folders = zip(reversed(parts[:-1]), reversed(candidate[:-1]), strict=False)
            shared = next((n for n, (a, b) in enumerate(folders) if a != b), len(candidate))
            scores[path] = shared, candidate[-1] == parts[-1]
    best = max(scores.values(), default=None)
    nearest = [path for path, score in scores.items() if score == best]
    return nearest[0] if len(nearest) == 1 else ""


def describe_differences(nearest: Mapping[str, str]) -> str:
    """Return in what names differ from their nearest files, with the number of names of each sort.

    That is, for example, "3 names differ in upper and lower case, 1 in blanks and the folder".
    """
    counts = Counter(" and ".join(_differences(name, path)) for name, path in nearest.items())
    phrases = [f"{count:,} in {sort}" for sort, count in counts.most_common()]
    first, *others = phrases
    count, _, sort = first.partition(" ")
    verb = "name differs" if count == "1" else "names differ"
    return ", ".join([f"{count} {verb} {sort}", *others])


def _differences(name: str, path: str) -> list[str]:
    """Return the sorts of differences between a name and its nearest file."""
    parts, candidate = name.replace("\\", "/").split("/"), path.split("/")
    if _normalised(name)[:-1] == _normalised(path)[:-1]:
        pairs = list(zip(parts, candidate, strict=False))
        folder = []
    else:
        pairs, folder = [(parts[-1], candidate[-1])], ["the folder"]
    ending = []
    if _normalised(name)[-1] != _normalised(path)[-1]:
        pairs[-1], ending = (_stem(pairs[-1][0]), _stem(pairs[-1][1])), ["the ending"]
    forms = [
        form
        for form in _FORMS
        if any(_apply(a, without=form) != _apply(b, without=form) for a, b in pairs)
    ]
    return [*forms, *ending, *folder] or ["form"]


def common_change(nearest: Mapping[str, str]) -> Change | None:
    """Return the change that turns every name into its nearest file, None if there is none."""
    changes = [_change(name, path) for name, path in nearest.items()]
    if not changes or None in changes:
        return None
    # The tails of some names share more folders by chance: the shortest tail is that of all.
    change = max(filter(None, changes), key=lambda change: len(change.strip_prefix))
    turned = all(apply_change(change, name) == path for name, path in nearest.items())
    return change if turned else None


def apply_change(change: Change, name: str) -> str:
    """Return the file that a name means after a change, "" if it lacks the prefix."""
    name = name.replace("\\", "/")
    if not name.startswith(change.strip_prefix):
        return ""
    rest = name[len(change.strip_prefix) :].lstrip("/")
    return (f"{change.folder}/{rest}" if change.folder else rest) + change.suffix


def _change(name: str, path: str) -> Change | None:
    parts, candidate = name.replace("\\", "/").split("/"), path.split("/")
    if not candidate[-1].startswith(parts[-1]):
        return None
    suffix = candidate[-1][len(parts[-1]) :]
    shared = 1
    while shared < min(len(parts), len(candidate)) and parts[-shared - 1] == candidate[-shared - 1]:
        shared += 1
    prefix = "/".join([*parts[:-shared], ""]) if len(parts) > shared else ""
    return Change(prefix, "/".join(candidate[:-shared]), suffix)


def _files(root: Path) -> Iterator[str]:
    """Yield the paths of the visible files below a folder, without those of runs."""
    for parent, folders, files in os.walk(root):
        is_run = "experiment.toml" in files
        folders[:] = sorted(name for name in folders if not (is_run or name.startswith(_HIDDEN)))
        for file in [] if is_run else sorted(files):
            yield Path(parent, file).relative_to(root).as_posix()


def _normalised(name: str) -> list[str]:
    """Return the parts of a path without what may differ; one at least."""
    parts = (_apply(part) for part in name.replace("\\", "/").split("/"))
    return [part for part in parts if part] or [""]


def _apply(name: str, without: str = "") -> str:
    """Return a name in all forms, or in all but one."""
    for form, function in _FORMS.items():
        if form != without:
            name = function(name)
    return name


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.strip()
