"""Files that are there whole or not at all, and one line where a disk refuses them."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sightx.errors import Problem, ResourceError

TEMPORARY = ".writing-"
"""What the names of files begin with that are not whole yet, or not whole any more."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file and let it reach the medium; a crash may leave a part of it."""
    with path.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
        file.flush()
        _full_sync(file.fileno())


def replace(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file in one step: a crash leaves the old content or the new."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        write(temporary, content)
        temporary.replace(path)
    except OSError:
        _delete(temporary)
        raise
    fsync_folder(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a folder to write files into; when they are written it takes its place in one step.

    What was there before goes, and last. Where writing fails, nothing of the new one stays.
    """
    temporary, old = path.with_name(f"{TEMPORARY}{path.name}"), _hidden(path)
    temporary.mkdir()
    try:
        yield temporary
        fsync_folder(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError:
        _delete(temporary)
        if old.exists():
            old.rename(path)
        raise
    fsync_folder(path.parent)
    _delete(old)


def remove(path: Path) -> None:
    """Remove a directory; a crash never leaves a part of it under its name."""
    shutil.rmtree(path.rename(_hidden(path)))


def sweep(folder: Path) -> None:
    """Remove what a writer that was killed has left behind."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def fsync_folder(folder: Path) -> None:
    """Let the names in a folder reach the medium."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free_space(folder: Path, need: int) -> None:
    """Raise ResourceError where fewer than `need` bytes are free."""
    with disk_errors(folder, need):
        if _free(folder) < need:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def disk_errors(folder: Path, need: int = 0) -> Iterator[None]:
    """Turn what a disk refuses into a ResourceError of one line; `need` is in bytes."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT and not folder.is_dir():
            message, hint = f"{folder} is gone", "it was moved or removed while a run wrote there"
        elif error.errno in _FULL:
            free = size(_free(folder if folder.is_dir() else folder.parent))
            wanted = f"need {size(need)}, " if need else ""
            message = f"disk full: {wanted}{free} free in {folder}"
            hint = "free space, then sightx resume RUN"
        else:
            what = f"{size(need)} in {folder}" if need else f"in {folder}"
            message, hint = f"cannot write {what}: {error.strerror or error}", ""
        raise ResourceError(Problem("disk-write", message, hint)) from error


def size(count: float) -> str:
    """Return a number of bytes as people say it."""
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e3:.0f} kB"


def _free(folder: Path) -> float:
    """Return the free bytes, or infinity where a file system does not count them."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else math.inf


def _hidden(path: Path) -> Path:
    """Return the name under which a directory is taken apart."""
    return path.with_name(f"{TEMPORARY}old-{path.name}")


def _delete(path: Path) -> None:
    """Remove what could not be written; what cannot be removed now is swept later."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return


def _full_sync(descriptor: int) -> None:
    """Sync to the medium; macOS's fsync stops at the drive's cache."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
