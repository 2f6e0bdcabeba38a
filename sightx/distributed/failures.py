"""Find the rank that failed first; the communication errors of the other ranks are consequences.

Each rank that fails offers a record of its failure to the store, which keeps the first one, and
raises the failure that the store keeps. So all ranks end with the same error and exit code, and
rank 0 writes it to result.json. (The error files of torch.distributed.elastic reach only the
launcher of a host, and only after the processes have ended.) A rank that is killed offers no
record, but its heartbeat stops.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any
from weakref import WeakKeyDictionary

from sightx.distributed import rendezvous
from sightx.errors import Problem, ResourceError, SightXError
from sightx.io.signals import STOP_SIGNALS, Interrupted
from sightx.registry.failures import expected_failure, plugin_failure
from sightx.registry.registry import Registry

LOST_HINT = "the system kills processes when memory runs out; sightx resume RUN continues the run"

_PEER_LOST = ("/gloo/", "caused pair closure")  # gloo raises a plain RuntimeError
_TRACEBACK_LENGTH = 20_000  # characters
_failed_ranks: WeakKeyDictionary[BaseException, int] = WeakKeyDictionary()  # of agreed failures


@contextmanager
def propagate_first_failure(registry: Registry | None) -> Iterator[None]:
    """Raise the failure of the rank that failed first in place of this rank's own.

    Does nothing in a run with one process.
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
    """Return the failure that ends all ranks, given the error of this one.

    Signals are ignored from here on, so that the launcher, which terminates the remaining ranks,
    does not interrupt the report.
    """
    ignore_stop_signals()
    if error in _failed_ranks and isinstance(error, SightXError | Interrupted):
        return error
    failure = expected_failure(error) or plugin_failure(error, registry)
    try:
        if failure is None and is_peer_lost_error(error):
            return _from_record(_failure_of_peer(error))
        return _from_record(rendezvous.report_failure(_to_record(error, failure)))
    except RuntimeError:  # the store has ended, and with it the host of rank 0
        lost = _lost_ranks_error([0])
        _failed_ranks[lost] = rendezvous.rank()
        return lost


def ignore_stop_signals() -> None:
    """Ignore the stop signals from here on; only the main thread can do that."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def is_shown_by_other_rank(error: BaseException) -> bool:
    """Return whether all ranks raise this error and another rank prints it."""
    return _failed_ranks.get(error, rendezvous.rank()) != rendezvous.rank()


def is_peer_lost_error(error: BaseException) -> bool:
    """Return whether an error is what a collective raises when another rank has ended."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (
        type(error) is RuntimeError and any(text in str(error) for text in _PEER_LOST)
    )


def _lost_ranks_error(ranks: Sequence[int]) -> ResourceError:
    """Return the failure of ranks that ended without a record."""
    numbers = ", ".join(map(str, ranks))
    message = f"rank{'s' if len(ranks) > 1 else ''} {numbers} ended or stopped responding"
    return ResourceError(Problem("lost-process", message, LOST_HINT))


def _failure_of_peer(error: BaseException) -> dict[str, Any]:
    """Return the record of the rank whose end caused a communication error."""
    if lost := rendezvous.dead_ranks():
        failure = _lost_ranks_error(lost)
    else:
        message = f"every process is alive, but they cannot communicate: {error}"
        hint = "raise execution.group_timeout, or check the network"
        failure = ResourceError(Problem("lost-process", message, hint))
    return rendezvous.read_first_failure() or rendezvous.report_failure(_to_record(error, failure))


def _to_record(error: BaseException, failure: SightXError | None) -> dict[str, Any]:
    """Return the failure of this rank as JSON."""
    rank = rendezvous.rank()
    if isinstance(error, Interrupted):
        return {"rank": rank, "signal": error.number}
    failure = failure or SightXError(Problem("internal", f"{type(error).__name__}: {error}"))
    prefix = "" if failure.problems[0].code == "lost-process" else f"rank {rank}: "
    problems = [replace(problem, message=prefix + problem.message) for problem in failure.problems]
    return {
        "rank": rank,
        "exit": failure.exit_code,
        "problems": [asdict(problem) for problem in problems],
        "traceback": "".join(traceback.format_exception(error))[-_TRACEBACK_LENGTH:],
    }


def _from_record(record: Mapping[str, Any]) -> SightXError | Interrupted:
    """Return a recorded failure as an error of its class."""
    error: SightXError | Interrupted
    if "signal" in record:
        error = Interrupted(record["signal"])
    else:
        classes: list[type[SightXError]] = [SightXError, *SightXError.__subclasses__()]
        cls = next(cls for cls in classes if cls.exit_code == record["exit"])
        error = cls(*(Problem(**problem) for problem in record["problems"]))
        if record["rank"] != rendezvous.rank():
            error.add_note(f"on rank {record['rank']}:\n{record['traceback']}")
    _failed_ranks[error] = record["rank"]
    return error
