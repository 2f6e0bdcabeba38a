"""`SHA256SUMS`: the hash of every file of a run, as coreutils writes it.

`sha256sum -c SHA256SUMS` in the run directory checks a run without SightX.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sightx.errors import Problem, RunError
from sightx.io import atomic
from sightx.io.files import file_sha256

FILE = "SHA256SUMS"
NOT_SUMMED = frozenset({FILE, "about.json", "lock.json"})
"""Files that may change after a session has ended."""
_NOT_SUMMED_FOLDERS = frozenset({"trackers"})
_DIGITS = 64


def write_sums(directory: Path) -> None:
    """Write SHA256SUMS of a run directory; the caller holds its lock.

    Files of a checkpoint get the hash that its manifest recorded when they were written, so that
    damage since then is not covered up.
    """
    _replace(directory, {name: _file_hash(directory, name) for name in summed_files(directory)})


def update_sums(directory: Path, folders: Iterable[str]) -> None:
    """Renew the hashes of some files, and of all files in some folders.

    A run without SHA256SUMS gets none: it has not ended yet.
    """
    if not (directory / FILE).is_file():
        return
    changed = set(folders)

    def is_changed(name: str) -> bool:
        return name in changed or name.partition("/")[0] in changed

    sums = {name: value for name, value in read_sums(directory).items() if not is_changed(name)}
    new = (name for name in summed_files(directory) if is_changed(name))
    _replace(directory, sums | {name: _file_hash(directory, name) for name in new})


def forget_sums(directory: Path, names: Iterable[str]) -> None:
    """Leave out the hashes of some files."""
    left_out = set(names)
    _replace(directory, {k: v for k, v in read_sums(directory).items() if k not in left_out})


def read_sums(directory: Path) -> dict[str, str]:
    """Return the recorded hash of each file; {} without SHA256SUMS. Raises RunError."""
    path = directory / FILE
    if not path.is_file():
        return {}
    return parse_sums(path.read_text(encoding="utf-8", errors="surrogateescape"), str(path))


def parse_sums(text: str, file: str) -> dict[str, str]:
    """Return the hash of each file that the text of a SHA256SUMS names. Raises RunError."""
    sums = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        digest, separator, name = line.removeprefix("\\").partition("  ")
        if len(digest) != _DIGITS or not separator:
            hint = "restore the file, or delete it"
            raise RunError(Problem("bad-run", "the line is damaged", hint).at(file, number))
        sums[_unescape(name) if line.startswith("\\") else name] = digest
    return sums


def summed_files(directory: Path) -> Iterator[str]:
    """Yield the regular files of a run that have a hash, by name below its directory, sorted."""
    names = []
    for folder, folders, files in os.walk(directory):
        relative = Path(folder).relative_to(directory)
        folders[:] = [
            name
            for name in folders
            if name not in _NOT_SUMMED_FOLDERS and not name.startswith(atomic.TEMPORARY)
        ]
        names += [(relative / name).as_posix() for name in files]
    for name in sorted(names):
        path = directory / name
        is_temporary = path.name.startswith((atomic.TEMPORARY, ".lock-"))
        if name not in NOT_SUMMED and not is_temporary and not path.is_symlink() and path.is_file():
            yield name


def _file_hash(directory: Path, name: str) -> str:
    path, recorded = directory / name, {}
    if path.parts[-3:-2] == ("checkpoints",):
        from sightx.runs import checkpoints

        recorded = checkpoints.recorded_hashes(path.parent)
    return recorded.get(path.name) or file_sha256(path)


def _replace(directory: Path, sums: dict[str, str]) -> None:
    lines = [sum_line(name, sums[name]) for name in sorted(sums)]
    with atomic.run_disk_errors(directory):
        atomic.replace(directory / FILE, "".join(lines).encode(errors="surrogateescape"))


def sum_line(name: str, digest: str) -> str:
    """Return a line of SHA256SUMS; a backslash marks a name with a backslash or a line break."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def _unescape(name: str) -> str:
    parts = (part.replace("\\n", "\n").replace("\\r", "\r") for part in name.split("\\\\"))
    return "\\".join(parts)
