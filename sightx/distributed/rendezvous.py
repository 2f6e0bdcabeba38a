"""The key-value store that all ranks share: heartbeats, and the first failure.

It is the launcher's TCPStore, so it outlives the process group.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.io import system

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

EXIT_CODE_FILE = "SIGHTX_CODE"
"""The environment variable with the path of the file to which rank 0 writes its exit code."""

_CONNECT_TIMEOUT = timedelta(minutes=10)
_FIRST_FAILURE = "first-failure"
_HEARTBEAT_SECONDS = 1.0
_LOST_AFTER = 3 * _HEARTBEAT_SECONDS


def world_size() -> int:
    """Return the number of processes that a launcher such as torchrun started; 1 without one."""
    launched = {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)
    return int(os.environ.get("WORLD_SIZE", "1")) if launched else 1


def rank() -> int:
    """Return this process's rank; 0 if it is the only one."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def write_exit_code(code: int) -> None:
    """Write rank 0's exit code for a launcher that has asked for it."""
    if (file := os.environ.get(EXIT_CODE_FILE)) and not rank():
        Path(file).write_text(str(code), encoding="utf-8")


def connect_store(prefix: str) -> Store:
    """Return a new connection to the launcher's store, with a prefix before every key."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", timeout=_CONNECT_TIMEOUT))
    return PrefixStore(prefix, store)


@cache
def _store() -> Store:
    return connect_store("run")


def clear() -> None:
    """Delete the failure of an earlier run."""
    _store().delete_key(_FIRST_FAILURE)


def read_first_failure() -> dict[str, Any] | None:
    """Return the record of the first rank that failed, or None if none has."""
    if not _store().check([_FIRST_FAILURE]):
        return None
    record: dict[str, Any] = json.loads(_store().get(_FIRST_FAILURE))
    return record


def report_failure(record: Mapping[str, Any]) -> dict[str, Any]:
    """Record why this rank ends, unless a rank failed before; return the first failure."""
    first: dict[str, Any] = json.loads(_store().compare_set(_FIRST_FAILURE, "", json.dumps(record)))
    return first


@contextmanager
def heartbeat() -> Iterator[None]:
    """Count up this rank's heartbeat in a thread, also while its main thread waits."""
    store, key = connect_store("run"), _heartbeat_key(rank())

    def beat() -> bool:
        try:
            store.add(key, 1)
        except RuntimeError:
            return False  # the launcher has ended
        return True

    with system.repeated(beat, _HEARTBEAT_SECONDS, "heartbeat"):
        yield


def dead_ranks() -> list[int]:
    """Wait some heartbeats, and return the ranks that sent none.

    Returns an empty list as soon as a rank has reported a failure: then none was killed.
    """
    before, deadline = _heartbeats(), time.monotonic() + _LOST_AFTER
    while time.monotonic() < deadline and read_first_failure() is None:
        time.sleep(_HEARTBEAT_SECONDS / 20)
    if read_first_failure() is not None:
        return []
    return [rank for rank, beats in enumerate(_heartbeats()) if beats == before[rank]]


def _heartbeats() -> list[int]:
    return [_store().add(_heartbeat_key(rank), 0) for rank in range(world_size())]


def _heartbeat_key(rank: int) -> str:
    return f"heartbeat/{rank}"
