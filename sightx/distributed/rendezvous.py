"""What processes of one run leave for one another beside the group: signs of life, and the end.

It is the store of keys and values that the launcher serves, so it is there when the group is not.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

JOIN = timedelta(minutes=10)
"""In which time every process has to be there."""
PULSE = 1.0
"""Seconds between two signs of life."""
CODE = "SIGHTX_CODE"
"""The variable that names the file in which a launcher finds an exit code."""

_END, _RESULT, _HEARD = "end", "result", "heard"
_FAREWELL = 5.0  # seconds that the first waits for others to hear the result


def world_size() -> int:
    """Return the number of processes that a launcher such as torchrun has started; 1 without."""
    known = {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)
    return int(os.environ.get("WORLD_SIZE", "1")) if known else 1


def rank() -> int:
    """Return this process's rank; 0 where there is no other."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def write_exit_code(code: int) -> None:
    """Leave the first process's exit code for a launcher that has asked for it."""
    if (file := os.environ.get(CODE)) and not rank():
        Path(file).write_text(str(code))


def connect_store(prefix: str) -> Store:
    """Return a connection of its own to the launcher's store, its keys behind a prefix."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", timeout=JOIN))
    return PrefixStore(prefix, store)


@cache
def _board() -> Store:
    return connect_store("board")


def clear() -> None:
    """Forget the end of a run before."""
    for key in (_END, _RESULT, _HEARD):
        _board().delete_key(key)


def read_first_failure() -> dict[str, Any] | None:
    """Return what the first process to end has left, or None while none has."""
    found: dict[str, Any] | None = None
    if _board().check([_END]):
        found = json.loads(_board().get(_END))
    return found


def report_failure(record: Mapping[str, Any]) -> dict[str, Any]:
    """Leave why this process ends; return what the first process to end has left."""
    first: dict[str, Any] = json.loads(_board().compare_set(_END, "", json.dumps(record)))
    return first


@contextmanager
def heartbeat() -> Iterator[None]:
    """Give signs of life, from a thread: a process that only waits is alive."""
    done, store, key = threading.Event(), connect_store("board"), _pulse(rank())

    def beat() -> None:
        while not done.wait(PULSE):
            try:
                store.add(key, 1)
            except RuntimeError:
                return  # the launcher is gone

    thread = threading.Thread(target=beat, name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(PULSE)


def publish_result(result: Mapping[str, Any]) -> None:
    """Leave the result for the others, and give them time: the store may end with this process."""
    _board().set(_RESULT, json.dumps(result))
    until = time.monotonic() + _FAREWELL
    while _board().add(_HEARD, 0) < world_size() - 1 and time.monotonic() < until:
        time.sleep(PULSE / 50)


def await_result() -> dict[str, Any] | None:
    """Return the result, once the first process has left it; None where it will leave none."""
    before, until = _pulses()[0], time.monotonic() + 3 * PULSE
    while not _board().check([_RESULT]):
        if (now := _pulses()[0]) != before:
            before, until = now, time.monotonic() + 3 * PULSE
        if time.monotonic() > until or "exit" in (read_first_failure() or {}):
            return None
        time.sleep(PULSE / 50)
    _board().add(_HEARD, 1)
    found: dict[str, Any] = json.loads(_board().get(_RESULT))
    return found


def dead_ranks() -> list[int]:
    """Return the ranks that give no sign of life any more; it takes some pulses to know.

    Returns at once, with none, where a rank has said why it ends.
    """
    before, until = _pulses(), time.monotonic() + 3 * PULSE
    while time.monotonic() < until and read_first_failure() is None:
        time.sleep(PULSE / 20)
    if read_first_failure() is not None:
        return []
    return [rank for rank, beats in enumerate(_pulses()) if beats == before[rank]]


def _pulses() -> list[int]:
    return [_board().add(_pulse(rank), 0) for rank in range(world_size())]


def _pulse(rank: int) -> str:
    return f"pulse/{rank}"
