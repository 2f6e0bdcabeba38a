"""One writer per run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sightx.errors import Problem, RunError
from sightx.io import atomic, locks, system
from sightx.io.locks import Lock, LocksUnsupported

FILE = "lock.json"
PATIENCE = 10.0
"""Seconds to wait for a run whose holder is dead, while the system still keeps its lock."""
SIGN_OF_LIFE = 30.0
"""Seconds after which the holder touches the lock file again."""
_IN_USE_HINT = "wait until it has finished, or end it"
_DEAD_AFTER = 5  # signs of life that a holder on another host may miss


@contextmanager
def run_lock(directory: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Be the only writer of a run directory; reading needs no lock.

    Raises RunError at once if a living process, or one on another host, is its writer, or if the
    file system has no locks; ResourceError if the directory cannot be written.
    """
    with atomic.run_disk_errors(directory):
        lock = _acquire(directory, patience)
        lock.write_holder(sign_of_life=SIGN_OF_LIFE)
    with lock, _signs_of_life(directory / FILE):
        yield


def is_locked(directory: Path) -> bool:
    """Return whether a process writes a run directory, as far as this host can know.

    The system knows it of processes on this host. A process on another host is alive if it has
    touched the lock file lately: file systems that several hosts share may not share locks, or keep
    those of a host that has crashed.
    """
    file = directory / FILE
    try:
        lock = locks.shared_lock(file)
    except FileNotFoundError:
        return False
    except OSError:
        lock = None
    if lock:
        lock.release()
    holder = locks.read_holder(file)
    interval = holder.get("sign_of_life")
    if holder.get("host") == socket.gethostname() or not isinstance(interval, float):
        return lock is None
    return time.time() - last_sign_of_life(directory) < _DEAD_AFTER * interval


def require_unlocked(directory: Path) -> None:
    """Raise RunError if a process writes a run directory."""
    if is_locked(directory):
        raise RunError(Problem("run-in-use", "run is in use", _IN_USE_HINT, file=directory.name))


def last_sign_of_life(directory: Path) -> float:
    """Return when the holder of a run's lock has touched it, in seconds since 1970; 0 if never."""
    with suppress(OSError):
        return (directory / FILE).stat().st_mtime
    return 0.0


@contextmanager
def _signs_of_life(file: Path) -> Iterator[None]:
    """Touch a lock file while the body runs, from another thread."""

    def touch() -> bool:
        with suppress(OSError):  # the folder may be gone; a writer will report it
            os.utime(file)
        return True

    with system.repeated(touch, SIGN_OF_LIFE, "sightx-sign-of-life"):
        yield


def _acquire(directory: Path, patience: float) -> Lock:
    file, deadline = directory / FILE, time.monotonic() + patience
    try:
        while (lock := locks.exclusive_lock(file, create=True)) is None:
            holder = locks.read_holder(file)
            if _is_alive(holder) or time.monotonic() > deadline:
                raise _in_use(directory, holder)
            time.sleep(0.05)
    except LocksUnsupported as error:
        hint = "put runs on a local disk with --runs FOLDER"
        raise RunError(Problem("no-lock", f"{directory}: {error.strerror}", hint)) from error
    return lock


def _is_alive(holder: Mapping[str, Any]) -> bool:
    """Return whether a holder is alive, as far as this host can know: on another one it is."""
    if not holder:
        return False  # it has just taken the lock, and is about to write who it is
    if holder["host"] != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it belongs to another user
    return True


def _in_use(directory: Path, holder: Mapping[str, Any]) -> RunError:
    message = f"run is in use by {locks.describe_holder(holder)}"
    if holder and not _is_alive(holder):
        message += "; it is dead, but a child of it still holds the run"
    return RunError(Problem("run-in-use", message, _IN_USE_HINT, file=str(directory)))
