"""Files and folders that appear complete or not at all, and disk errors in one line."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from sightx.errors import Problem, ResourceError
from sightx.io.streams import is_closed_pipe
from sightx.io.system import format_bytes

TEMPORARY = ".writing-"
"""Prefix of files and folders that are incomplete or about to be removed."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file and flush it to the disk; a crash may leave it incomplete."""
    with path.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
        file.flush()
        fsync(file.fileno())


def replace(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file in one step: after a crash it has the old content or the new."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        write(temporary, content)
        temporary.replace(path)
    except OSError:
        _try_to_remove(temporary)
        raise
    fsync(path.parent)


def write_new(path: Path, content: bytes) -> Path:
    """Write a file under a name that is free, and return its path: nothing is ever replaced.

    The name is that of `path`, or has a number, as in `list-2.csv`. A file that has this content
    already is not written again. Links are not followed.
    """
    number, candidate = 1, path
    while True:
        try:
            file = candidate.open("xb")
        except FileExistsError:
            if not candidate.is_symlink() and _has_content(candidate, content):
                return candidate
            number += 1
            candidate = path.with_stem(f"{path.stem}-{number}")
            continue
        try:
            with file:
                file.write(content)
        except OSError:
            _try_to_remove(candidate)
            raise
        return candidate


def _has_content(path: Path, content: bytes) -> bool:
    with suppress(OSError):
        return path.stat().st_size == len(content) and path.read_bytes() == content
    return False


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to `path`, which becomes `path` in one step at the end.

    The caller flushes the files that it writes. An existing folder is replaced, and removed last.
    If an error is raised, the new folder is removed.
    """
    temporary, old = path.with_name(f"{TEMPORARY}{path.name}"), _hidden(path)
    temporary.mkdir()
    try:
        yield temporary
        fsync(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except BaseException:
        _try_to_remove(temporary)
        if old.exists():
            old.rename(path)
        raise
    fsync(path.parent)
    _try_to_remove(old)


def remove(path: Path) -> None:
    """Remove a folder; a crash never leaves a part of it under its name."""
    shutil.rmtree(path.rename(_hidden(path)))


def sweep(folder: Path) -> None:
    """Remove what a killed writer has left in a folder."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def fsync(target: Path | int) -> None:
    """Flush an open file, a file or the names in a folder to the disk."""
    if isinstance(target, int):
        if hasattr(fcntl, "F_FULLFSYNC"):  # on macOS, os.fsync stops at the drive's cache
            fcntl.fcntl(target, fcntl.F_FULLFSYNC)
        else:
            os.fsync(target)
        return
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor) if target.is_dir() else fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free_space(folder: Path, need: int) -> None:
    """Raise ResourceError if fewer than `need` bytes are free."""
    with disk_errors(folder, need):
        if _free(folder) < need:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def disk_errors(
    folder: Path,
    need: int = 0,
    *,
    code: str = "disk-write",
    full_code: str = "disk-write",
    hint: str = "",
    full_hint: str = "free space, then try again",
) -> Iterator[None]:
    """Turn an OSError of the body into a ResourceError of one line.

    Args:
        folder: The folder that the body writes to.
        need: The bytes that the body writes, if they are known.
        code: The code of the problem, with its way out in `hint`.
        full_code: The code for a disk or a quota that is full, with its way out in `full_hint`.
    """
    try:
        yield
    except OSError as error:
        if is_closed_pipe(error):  # what the body prints has no reader: the disk is fine
            raise
        if error.errno == errno.ENOENT and not folder.is_dir():
            message, hint = f"{folder} is gone", "it was moved or removed while a run wrote there"
        elif error.errno in DISK_FULL:
            free = format_bytes(_free(folder if folder.is_dir() else folder.parent))
            wanted = f"need {format_bytes(need)}, " if need else ""
            message = f"disk full: {wanted}{free} free in {folder}"
            code, hint = full_code, full_hint
        else:
            what = f"{format_bytes(need)} in {folder}" if need else f"in {folder}"
            message = f"cannot write {what}: {error.strerror or error}"
        raise ResourceError(Problem(code, message, hint)) from error


def run_disk_errors(folder: Path, need: int = 0) -> AbstractContextManager[None]:
    """Do as `disk_errors` below a run: there the way out of a full disk ends with a resume."""
    return disk_errors(folder, need, full_hint="free space, then sightx resume RUN")


def _free(folder: Path) -> float:
    """Return the free bytes, or infinity for a file system that does not count them."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else math.inf


def _hidden(path: Path) -> Path:
    """Return the name under which a folder is removed file by file."""
    return path.with_name(f"{TEMPORARY}old-{path.name}")


def _try_to_remove(path: Path) -> None:
    """Remove a file or a folder; `sweep` removes later what cannot be removed now."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
