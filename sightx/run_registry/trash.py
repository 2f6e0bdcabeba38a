"""Remove runs into a trash folder, from which they can be restored."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sightx.errors import Problem, RunError, counted
from sightx.io import atomic
from sightx.run_registry.filters import Like
from sightx.run_registry.index import read_index
from sightx.runs import lock, names

FOLDER = ".trash"
"""Folder of removed runs, in the folder of runs, so that removing one is a rename."""


def remove_run(root: Path, directory: Path) -> Path:
    """Move a run of the folder `root` to the trash, and return where it is now.

    Raises RunError if a process writes it, or if the weights of other runs come from it.
    """
    lock.require_unlocked(directory)
    if children := children_of(root, directory.name, "weights"):
        message = (
            f"{counted(len(children), 'run')} began with its weights: {', '.join(children[:3])}"
        )
        hint = "remove them first"
        raise RunError(Problem("run-in-use", message, hint, file=directory.name))
    target = _free(root / FOLDER / directory.name)
    with atomic.disk_errors(root):
        target.parent.mkdir(exist_ok=True)
        directory.rename(target)
    return target


def restore_run(root: Path, name: str) -> Path:
    """Move a run from the trash back, and return its directory. Raises RunError."""
    trashed = root / FOLDER / name
    if "/" in name or not names.is_run(trashed):
        trash = ", ".join(path.name for path in removed_runs(root)[-3:])
        raise RunError(Problem("no-run", f"no run {name!r} in the trash", trash))
    if (root / name).exists():
        hint = "remove it first"
        raise RunError(Problem("no-run", f"{root / name} exists already", hint))
    with atomic.disk_errors(root):
        return trashed.rename(root / name)


def removed_runs(root: Path) -> list[Path]:
    """Return the runs in the trash, the oldest first."""
    return names.run_directories(root / FOLDER)


def purge(directories: Sequence[Path]) -> int:
    """Delete runs of the trash permanently, and return the bytes that they had."""
    size = 0
    for directory in directories:
        size += disk_usage(directory)
        with atomic.disk_errors(directory.parent):
            shutil.rmtree(directory)
    return size


def children_of(root: Path, name: str, why: str = "*") -> list[str]:
    """Return the ids of the runs whose `parents` name a run; `why` is a reason, `*` is any."""
    pattern = Like("parents", f"*{why}:{name}*")
    rows = read_index(root, lambda index: index.select(pattern))
    return [
        str(row["id"])
        for row in rows
        if name in [parent.partition(":")[2] for parent in str(row["parents"]).split()]
    ]


def disk_usage(directory: Path) -> int:
    """Return the bytes of the files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def _free(path: Path) -> Path:
    """Return a name in the trash that is free: a run may have been imported and removed again."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
