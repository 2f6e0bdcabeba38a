"""A SIGINT reaches the caller of a run as KeyboardInterrupt, after the state is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sightx.distributed import rendezvous
from sightx.io.signals import Interrupted
from sightx.runs.directory import Run


class RunInterrupted(KeyboardInterrupt):
    """A SIGINT has ended a run, whose state is saved; `run` is the run."""

    def __init__(self, run: Run) -> None:
        path = str(run.directory)
        super().__init__(f"{run.id} is saved; sightx.resume({path!r}) continues it")
        self.run = run


def uninterrupted(run: Run) -> Run:
    """Return a run. Raise RunInterrupted if a SIGINT has ended it."""
    if run.result.get("signal") == signal.SIGINT:
        raise RunInterrupted(run)
    return run


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt for a SIGINT that came before the run had anything to save."""
    try:
        yield
    except Interrupted as error:
        if error.number != signal.SIGINT or rendezvous.world_size() > 1:
            raise
        raise KeyboardInterrupt from error
