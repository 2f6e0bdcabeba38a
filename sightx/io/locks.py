"""File locks that the system releases when their holder dies, and a record of the holder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()  # all that this process holds


class LocksUnsupported(OSError):  # noqa: N818  translated where the lock is wanted
    """The file system has no locks."""


class Lock:
    """A lock on a file, held until `release`, the end of a `with`, or garbage collection.

    A forked child does not hold it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.release = weakref.finalize(self, os.close, descriptor)
        _locks.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def write_holder(self, **more: Any) -> None:
        """Write into the locked file who holds it, and `more` about what it does."""
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, **more}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode() + b"\n", 0)


def shared_lock(file: Path) -> Lock | None:
    """Return a lock on an existing file that many may share; None if one holds it exclusively.

    Raises LocksUnsupported, or another OSError if the file cannot be opened.
    """
    return _lock(file, os.O_RDONLY, fcntl.LOCK_SH | fcntl.LOCK_NB)


def exclusive_lock(file: Path, *, create: bool = False, wait: bool = False) -> Lock | None:
    """Return a lock on a file that nobody else holds; None if another holder has it.

    With `wait` this returns None only if the holder removed the file: then try again. Raises
    LocksUnsupported, or another OSError if the file cannot be written.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    return _lock(file, flags, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def file_lock(file: Path) -> Iterator[None]:
    """Let one process at a time run the body, and remove the lock file afterwards.

    Other processes wait. On a file system without locks nobody waits. Raises OSError if the file
    cannot be written.
    """
    try:
        while (lock := exclusive_lock(file, create=True, wait=True)) is None:
            pass
    except LocksUnsupported:
        lock = None
    try:
        yield
    finally:
        if is_lock_file(file):
            file.unlink()
        if lock:
            lock.release()


def read_holder(file: Path) -> dict[str, Any]:
    """Return the pid, host and since of a lock's holder; {} while it is being written."""
    with suppress(OSError, ValueError):
        holder = json.loads(file.read_bytes())
        if isinstance(holder, dict) and holder.keys() >= {"pid", "host", "since"}:
            return holder
    return {}


def is_lock_file(file: Path) -> bool:
    """Return whether a file is empty or names a holder, as only our lock files do."""
    return file.is_file() and (not file.stat().st_size or bool(read_holder(file)))


def describe_holder(holder: Mapping[str, Any]) -> str:
    """Return who holds a lock, in words."""
    if not holder:
        return "another process"
    return "pid {pid} on host {host} since {since}".format(**holder)


def _lock(file: Path, flags: int, operation: int) -> Lock | None:
    lock = Lock(os.open(file, flags | os.O_CLOEXEC, 0o666))
    try:
        fcntl.flock(lock._descriptor, operation)
        # The previous holder may have removed the file: then this is a lock on nothing.
        if os.path.samestat(os.fstat(lock._descriptor), file.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        lock.release()
        if error.errno in _UNSUPPORTED:
            reason = f"the file system has no locks ({error.strerror})"
            raise LocksUnsupported(error.errno, reason) from error
        raise
    lock.release()
    return None


def _close_in_child() -> None:
    """Close a forked child's copies: a child that survives its parent must hold no lock."""
    for lock in _locks:
        if lock.release.detach():
            os.close(lock._descriptor)


os.register_at_fork(after_in_child=_close_in_child)
