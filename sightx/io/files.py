"""Files below a root folder: found and read without following links out of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightx.errors import did_you_mean, wrong_type


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as a user gives it, with the home folder in place of a leading `~`.

    The `~` of an unknown user stays. Raises SpecError for what is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise wrong_type("the path", path, "a string or a pathlib.Path")
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8: the name of a file may have other bytes."""
    return text.isascii() or text == text.encode(errors="replace").decode()


def argument_path(path: str | os.PathLike[str]) -> Path:
    """Return `user_path` of a path that a program gives. Raises SpecError also for a NUL in it."""
    if isinstance(path, str | os.PathLike) and "\0" in str(path):
        raise wrong_type("the path", path, "a path without NUL")
    return user_path(path)


def natural_key(name: str) -> list[tuple[str, int]]:
    """Return a sort key that orders numbers in names by value: `resnet9` before `resnet10`."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def user_cache() -> Path:
    """Return the folder of what can be made again: SIGHTX_INDEX, or one in the user's cache."""
    if folder := os.environ.get("SIGHTX_INDEX"):
        return user_path(folder)
    default = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return user_path(os.environ.get("XDG_CACHE_HOME") or default) / "sightx-runs"


def shell_path(path: str | os.PathLike[str]) -> str:
    """Return a path as a shell takes it in a command that a hint proposes.

    It is relative to the working directory if it is below it, and quoted if it must be. A single
    name begins with `./`: it could be taken for an id, a number or an option.
    """
    absolute = Path(os.path.abspath(user_path(path)))  # noqa: PTH100 - removes `..`, keeps links
    with suppress(OSError):  # the working directory may be gone
        if absolute.is_relative_to(Path.cwd()):
            relative = str(absolute.relative_to(Path.cwd()))
            return shlex.quote(relative if "/" in relative else f"./{relative}")
    return shlex.quote(str(absolute))


def hint_for_missing(path: Path) -> str:
    """Return a hint with what is called nearly like a missing path and next to it, or ""."""
    try:
        return did_you_mean(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    except OSError:
        return ""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_bytes(value: object) -> bytes:
    """Return the content of a JSON file for people. Raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} if it is missing, damaged, or not an object."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in the complete lines of a file, up to the first damaged one."""
    rows = []
    with suppress(OSError, TypeError, ValueError):
        content = path.read_bytes()
        for line in content[: content.rfind(b"\n") + 1].splitlines():
            rows.append(dict(json.loads(line)))
    return rows


# os.path instead of pathlib: these functions run once per image, and a Path costs as much again.


LEADS_OUT = "leads out of the folder of images"
"""The reason for a link out of the folder, if such links are not followed."""


def resolve_below(root: str, path: str, *, follow_links: bool = False) -> str:
    """Return the regular file that `path` leads to below `root`, which itself has no links.

    Raises OSError if there is no such file, or if a link leads out of the folder and
    `follow_links` is False.
    """
    file = os.path.realpath(os.path.join(root, path))  # noqa: PTH118
    if not follow_links and not _is_below(root, file):
        raise OSError(errno.EXDEV, LEADS_OUT)
    if not stat.S_ISREG(os.stat(file).st_mode):  # noqa: PTH116
        raise OSError(errno.EINVAL, "not a file")
    return file


def _is_below(root: str, path: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")


# Readers are objects, not closures, so that they can be sent to the workers of a DataLoader.
@dataclass(frozen=True)
class FileReader:
    """Read the files at `paths` below `root`, a folder whose own path has no links."""

    root: str
    paths: Sequence[str]
    follow_links: bool = False

    def __call__(self, index: int) -> bytes:
        """Return the content of file `index`. Raises OSError."""
        path = resolve_below(self.root, self.paths[index], follow_links=self.follow_links)
        return Path(path).read_bytes()


def file_reader(
    root: Path, paths: Sequence[str], *, follow_links: bool = False
) -> Callable[[int], bytes]:
    """Return a function that reads file `index` of `paths` below a folder.

    Reading raises OSError for a link that leads out of the folder, unless `follow_links` is True.
    """
    return FileReader(os.path.realpath(root), paths, follow_links)


class FileFinder:
    """Stat many files below a folder by the rules of `resolve_below`, several times faster.

    Resolved folders are remembered. Files are opened through `resolve_below` only, because a
    folder may be replaced by a link after it was resolved here.
    """

    def __init__(self, root: str | Path, *, follow_links: bool = False) -> None:
        self._root = os.path.realpath(root)
        self._follow_links = follow_links
        self._folders: dict[str, str] = {}

    def __call__(self, path: str) -> os.stat_result:
        """Return the stat of the regular file that a path leads to. Raises OSError."""
        parent, name = os.path.split(path)
        folder = self._folders.get(parent)
        if folder is None:
            folder = os.path.realpath(os.path.join(self._root, parent))  # noqa: PTH118
            self._folders[parent] = folder
        inside = folder == self._root or _is_below(self._root, folder)
        if inside and name not in ("", ".", ".."):
            status = os.lstat(f"{folder}/{name}")
            if stat.S_ISREG(status.st_mode):
                return status
        file = resolve_below(self._root, path, follow_links=self._follow_links)
        return os.stat(file)  # noqa: PTH116
