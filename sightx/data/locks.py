"""Locks that the system gives back when their holder dies, and who holds one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

from sightx.errors import Problem, ResourceError

_UNABLE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


class Lock:
    """Hold a file's lock until it is closed, or nobody refers to it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)

    def sign(self) -> None:
        """Write into the file who holds it."""
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(who).encode(), 0)


def shared(file: Path) -> Lock | None:
    """Return a lock that many may hold on a file that is there; None where one has it alone."""
    return _locked(file, os.O_RDONLY, fcntl.LOCK_SH)


def alone(file: Path, *, create: bool = False) -> Lock | None:
    """Return a lock that nobody else holds, None where somebody does.

    Raises OSError where the file cannot be written, ResourceError where there are no locks.
    """
    return _locked(file, os.O_RDWR | (os.O_CREAT if create else 0), fcntl.LOCK_EX)


def holder(file: Path) -> str:
    """Return who holds a lock, as far as its file says."""
    try:
        who: dict[str, Any] = json.loads(file.read_bytes())
        return "pid {pid} on host {host} since {since}".format(**who)
    except (OSError, ValueError, KeyError):  # it is just being written
        return "another process"


def _locked(file: Path, flags: int, kind: int) -> Lock | None:
    descriptor = os.open(file, flags | os.O_CLOEXEC, 0o644)
    lock = Lock(descriptor)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        # Whoever had it before may have removed the file: then this is a lock on nothing.
        if os.path.samestat(os.fstat(descriptor), file.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        lock.close()
        if error.errno not in _UNABLE:
            raise
        message = f"the file system of {file.parent} knows no locks ({error.strerror})"
        hint = "let SIGHTX_STORE name a folder on another disk, or execution.store be off"
        raise ResourceError(Problem("no-store", message, hint)) from error
    lock.close()
    return None


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
