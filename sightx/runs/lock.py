"""One writer a run: a lock that the system gives back when its holder dies."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightx.errors import Problem, RunError
from sightx.io import atomic, locks

FILE = "lock.json"
PATIENCE = 10.0
"""Seconds to wait for a run whose holder is dead, while the system still keeps its lock."""

_held: set[int] = set()


@contextmanager
def run_lock(directory: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Be the only writer of a run directory; who only reads needs no lock.

    Raises RunError at once where a living process, or one on another host, is its writer, and
    where the file system knows no locks; ResourceError where the directory cannot be written.
    """
    with atomic.disk_errors(directory):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(directory / FILE, flags, 0o644)
    _held.add(descriptor)
    try:
        with atomic.disk_errors(directory):
            _acquire(descriptor, directory, patience)
            locks.write_holder(descriptor)
        yield
    finally:
        if descriptor in _held:  # a forked child has closed its copy: the lock is its parent's
            _held.discard(descriptor)
            os.close(descriptor)


def _acquire(descriptor: int, directory: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while not _locked(descriptor, directory):
        holder = _read(descriptor)
        if _lives(holder) or time.monotonic() > until:
            raise _in_use(directory, holder)
        time.sleep(0.05)


def _locked(descriptor: int, directory: Path) -> bool:
    """Try to take the lock. Raises RunError where the file system has none."""
    try:
        return locks.try_lock(descriptor)
    except locks.LocksUnsupported as error:
        message = f"the file system of {directory} knows no locks ({error.strerror})"
        hint = "put runs on a local disk with --runs FOLDER"
        raise RunError(Problem("no-lock", message, hint)) from error


def _lives(holder: dict[str, Any]) -> bool:
    """Say whether a holder is alive, as far as can be seen from here: elsewhere it is."""
    if not holder:
        return False  # it has just taken the lock, and is about to write who it is
    if holder["host"] != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def _in_use(directory: Path, holder: dict[str, Any]) -> RunError:
    message = "run is in use"
    if holder:
        message += f" by {locks.describe_holder(holder)}"
        if not _lives(holder):
            message += "; it is dead, but a child of it still holds the run"
    hint = "wait until it has finished, or end it"
    return RunError(Problem("run-in-use", message, hint, file=str(directory)))


def _read(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except ValueError:  # half written
        return {}
    return holder if isinstance(holder, dict) else {}


def _let_go() -> None:
    """Close a forked child's copies, so that a child that survives holds no run."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
