"""The file that a name in a table most likely means, if there is no file of that name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MAX_FILES = 200_000  # that are compared with a name


def nearest_file(root: Path, name: str) -> str:
    """Return the path below a folder of the file whose name differs only in form; "" for none.

    Upper and lower case, blanks, backslashes, the ending, the Unicode form and the folders above
    may differ. Of several such files the one counts that shares the most folders; if that is not
    one file, the result is "".
    """
    parts = _normalised(name).split("/")
    last = parts[-1]
    wanted = {last, _stem(last)}
    scores: dict[str, tuple[int, bool]] = {}
    for path in _files(root):
        candidate = _normalised(path).split("/")
        if candidate[-1] in wanted or _stem(candidate[-1]) in wanted:
            folders = zip(reversed(parts[:-1]), reversed(candidate[:-1]), strict=False)
            shared = next((n for n, (a, b) in enumerate(folders) if a != b), len(candidate))
            scores[path] = shared, candidate[-1] == last
    best = max(scores.values(), default=None)
    nearest = [path for path, score in scores.items() if score == best]
    return nearest[0] if len(nearest) == 1 else ""


def _files(root: Path) -> Iterator[str]:
    """Yield the paths of the visible files below a folder, relative to it."""
    count = 0
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for file in sorted(files):
            count += 1
            if count > _MAX_FILES:
                return
            yield Path(parent, file).relative_to(root).as_posix()


def _normalised(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name.replace("\\", "/")).casefold()
    parts = (" ".join(part.split()) for part in plain.split("/"))
    return "/".join(part for part in parts if part)


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.strip()
