"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run after its state is saved; SIGHUP says that the terminal is gone."""
RELAY_SECONDS = 5.0
"""For how long another signal, or one that a launcher repeats, is the same request."""


class Interrupted(BaseException):
    """A signal has ended the run. Not an Exception, so that no plugin can swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopRequest:
    """Remember the signal that asked the run to stop; the same one again ends the process at once.

    After the first signal the system's own handler is restored for it: that needs no Python to be
    running, so that a process that is busy inside a library ends too. Other signals mean the same
    request for `RELAY_SECONDS` more, because terminals and schedulers send several, as does the
    first signal under torchrun, which repeats it. `on_interrupt` is the handler of a second SIGINT;
    None means the system's own.
    """

    number = 0
    """The signal that was received first; 0 if there was none."""
    _since = 0.0

    def __init__(self, on_interrupt: Callable[[int, FrameType | None], object] | None = None):
        self._on_interrupt = on_interrupt

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        launched = "TORCHELASTIC_RUN_ID" in os.environ
        if not self.number:
            self.number, self._since = number, time.monotonic()
            if not launched and number != signal.SIGHUP:
                self._restore(number)
        elif number != signal.SIGHUP and time.monotonic() - self._since > RELAY_SECONDS:
            self._restore(number)
            signal.raise_signal(number)

    def _restore(self, number: int) -> None:
        """Let a signal end the process, or raise KeyboardInterrupt in a program."""
        is_interrupt = number == signal.SIGINT and self._on_interrupt is not None
        signal.signal(number, self._on_interrupt if is_interrupt else signal.SIG_DFL)


def restore_defaults() -> None:
    """Let the system handle SIGINT and SIGTERM, which ends the process; ignored ones stay so."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def interrupt_once() -> Iterator[None]:
    """Let the first SIGINT raise KeyboardInterrupt; later signals end the process at once.

    So no traceback appears when several come. From the end of the body on, SIGINT ends the process
    without output, too. Does nothing in another thread than the main one.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        restore_defaults()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Let SIGINT, SIGTERM and SIGHUP end a run at its next safe point.

    A SIGHUP that is ignored, as under nohup, stays ignored. Only the main thread can receive
    signals; in another thread the request stays empty. Where a SIGINT raises KeyboardInterrupt
    before, as in a program or a notebook, a second one does so at once: it must not end a session.
    """
    is_program = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    request = StopRequest(signal.default_int_handler if is_program else None)
    # A run that ignores the signals at the end of the body is about to exit: it goes on doing so.
    with restore_handlers(unless=signal.SIG_IGN) as in_main_thread:
        for number in STOP_SIGNALS if in_main_thread else ():
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, request)
        yield request


@contextmanager
def restore_handlers(unless: object = None) -> Iterator[bool]:
    """Restore the handlers of the stop signals, except of a signal whose handler is `unless`.

    Yields whether this is the main thread, the only one that can change handlers.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS if in_main_thread}
    try:
        yield in_main_thread
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) not in (handler, unless):
                signal.signal(number, handler)
