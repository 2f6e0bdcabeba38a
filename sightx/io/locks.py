"""Locks that the system gives back when their holder dies, and who holds one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightx.errors import Problem, ResourceError

_UNABLE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


class LocksUnsupported(OSError):  # noqa: N818  caught inside, shown as a line of who wanted the lock
    """Say that a file system knows no locks."""


class Lock:
    """Hold a file's lock until it is closed, or nobody refers to it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)

    def sign(self) -> None:
        """Write into the file who holds it."""
        write_holder(self._descriptor)


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Try for the lock of an open file; say whether it is held now. Raises NoLocks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNABLE:
            raise LocksUnsupported(error.errno, error.strerror) from error
        raise
    return True


def write_holder(descriptor: int) -> None:
    """Write into an open file who holds its lock."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(who).encode() + b"\n", 0)


def describe_holder(who: Mapping[str, Any]) -> str:
    """Return what a holder has written, in words."""
    return "pid {pid} on host {host} since {since}".format(**who)


def shared_lock(file: Path) -> Lock | None:
    """Return a lock that many may hold on a file that is there; None where one has it alone."""
    return _locked(file, os.O_RDONLY, fcntl.LOCK_SH)


def exclusive_lock(file: Path, *, create: bool = False) -> Lock | None:
    """Return a lock that nobody else holds, None where somebody does.

    Raises OSError where the file cannot be written, ResourceError where there are no locks.
    """
    return _locked(file, os.O_RDWR | (os.O_CREAT if create else 0), fcntl.LOCK_EX)


def read_holder(file: Path) -> str:
    """Return who holds a lock, as far as its file says."""
    try:
        return describe_holder(json.loads(file.read_bytes()))
    except (OSError, ValueError, KeyError):  # it is just being written
        return "another process"


def _locked(file: Path, flags: int, kind: int) -> Lock | None:
    descriptor = os.open(file, flags | os.O_CLOEXEC, 0o644)
    lock = Lock(descriptor)
    try:
        # Whoever had it before may have removed the file: then this is a lock on nothing.
        if try_lock(descriptor, kind) and os.path.samestat(os.fstat(descriptor), file.stat()):
            return lock
    except FileNotFoundError:
        pass
    except LocksUnsupported as error:
        lock.close()
        message = f"the file system of {file.parent} knows no locks ({error.strerror})"
        hint = "let SIGHTX_CACHE name a folder on another disk, or execution.cache be off"
        raise ResourceError(Problem("no-cache", message, hint)) from error
    except OSError:
        lock.close()
        raise
    lock.close()
    return None
