"""Signals that ask a run to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)
ECHO = 5.0
"""Seconds in which a launcher passes on to its processes what they have heard themselves."""


class Interrupted(BaseException):
    """Say that a signal has ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopRequest:
    """Remember the signal that asked the run to end; a second one ends it at once.

    The first gives the second to the system, which needs no Python to be running: a process that
    is busy in a library ends too. Under torchrun signals stay here for `ECHO` seconds more.
    """

    number = 0
    _since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Hear a signal."""
        launched = "TORCHELASTIC_RUN_ID" in os.environ
        if not self.number:
            self.number, self._since = number, time.monotonic()
            for each in () if launched else NUMBERS:
                signal.signal(each, signal.SIG_DFL)
        elif time.monotonic() - self._since > ECHO:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM end a run at its next safe point; only a main thread hears them."""
    asked = StopRequest()
    with restore_handlers(unless=signal.SIG_IGN) as here:  # who ignores them is about to end
        for number in NUMBERS if here else ():
            signal.signal(number, asked)
        yield asked


@contextmanager
def restore_handlers(unless: object = None) -> Iterator[bool]:
    """Give back what heard SIGINT and SIGTERM before, where that is not `unless` now.

    Yields whether this thread may change it: only a main thread may.
    """
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in NUMBERS if here}
    try:
        yield here
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) != unless:
                signal.signal(number, handler)
