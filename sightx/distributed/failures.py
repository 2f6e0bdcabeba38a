"""Which process ended the run: one rank fails, and the others' errors are the noise of that."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from sightx.distributed import rendezvous
from sightx.errors import Problem, ResourceError, SightXError
from sightx.io.signals import STOP_SIGNALS, Interrupted
from sightx.registry.blame import expected_failure, plugin_failure
from sightx.registry.registry import Registry

_SEVERED = ("/gloo/", "caused pair closure")  # gloo raises nothing of its own
_LENGTH = 20_000  # characters of a traceback that travel


@contextmanager
def propagate_first_failure(registry: Registry | None) -> Iterator[None]:
    """Let what ends this process be what has ended the first one of all that a launcher started.

    Where there is no other process, nothing changes.
    """
    try:
        yield
    except BaseException as error:
        if rendezvous.world_size() == 1:
            raise
        raise first_failure(error, registry) from error


def first_failure(
    error: BaseException, registry: Registry | None = None
) -> SightXError | Interrupted:
    """Return what has ended all processes; `told` says whether another one shows it.

    From here on signals are ignored; whoever gave this process its part gives handlers back.
    """
    _ends_anyway()
    if isinstance(error, SightXError) and error.told is not None:
        return error
    failure = expected_failure(error) or plugin_failure(error, registry)
    try:
        if failure is None and is_peer_lost_error(error):
            return _read(_orphaned(error))
        return _read(rendezvous.report_failure(_record(error, failure)))
    except RuntimeError:  # the store is gone, and with it the host of the first rank
        gone = lost_ranks_error([0])
        gone.told = False
        return gone


def _ends_anyway() -> None:
    """Let the launcher's signal, by which it ends those that are left, not cut the last words."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def is_peer_lost_error(error: BaseException) -> bool:
    """Say whether an error is what a rank meets when another one has ended."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (
        type(error) is RuntimeError and any(words in str(error) for words in _SEVERED)
    )


def _orphaned(error: BaseException) -> dict[str, Any]:
    """Return why the run has ended; of a rank that could not say it, that it is gone."""
    gone = rendezvous.dead_ranks()
    return rendezvous.read_first_failure() or rendezvous.report_failure(
        _record(error, lost_ranks_error(gone) if gone else _late(error))
    )


def lost_ranks_error(ranks: Sequence[int]) -> ResourceError:
    """Return the failure of processes that are gone without a word."""
    who = f"rank {ranks[0]} is" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))} are"
    message = f"{who} gone, or gives no sign of life"
    hint = "the system kills processes when memory runs out; sightx resume RUN goes on"
    return ResourceError(Problem("lost-process", message, hint))


def _late(error: BaseException) -> ResourceError:
    message = f"every process is alive, but they do not hear one another: {error}"
    hint = "raise execution.group_timeout, or see to the network"
    return ResourceError(Problem("lost-process", message, hint))


def _record(error: BaseException, failure: SightXError | None) -> dict[str, Any]:
    """Return this rank's end as JSON holds it."""
    if isinstance(error, Interrupted):
        return {"rank": rendezvous.rank(), "signal": error.number}
    told = failure or SightXError(Problem("internal", f"{type(error).__name__}: {error}"))
    name = "" if told.problems[0].code == "lost-process" else f"rank {rendezvous.rank()}: "
    return {
        "rank": rendezvous.rank(),
        "exit": told.exit_code,
        "problems": [
            asdict(replace(problem, message=name + problem.message)) for problem in told.problems
        ],
        "trace": "".join(traceback.format_exception(error))[-_LENGTH:],
    }


def _read(record: Mapping[str, Any]) -> SightXError | Interrupted:
    """Return an end as the error that it was."""
    if "signal" in record:
        return Interrupted(record["signal"])
    kinds: list[type[SightXError]] = [SightXError, *SightXError.__subclasses__()]
    kind = next(kind for kind in kinds if kind.exit_code == record["exit"])
    error = kind(*(Problem(**problem) for problem in record["problems"]))
    error.told = record["rank"] != rendezvous.rank()
    if error.told:
        error.add_note(f"on rank {record['rank']}:\n{record['trace']}")
    return error
