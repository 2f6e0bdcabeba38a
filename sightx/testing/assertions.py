"""Contract checks: functions that raise AssertionError, with one line, if a component fails."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any
from unittest.mock import patch

ContractCheck = Callable[[Any], None]

_LATER = 100_003.7  # seconds: a day, and not a multiple of what a component may divide by


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `message` is empty if it passed."""

    name: str
    ok: bool
    message: str = ""

    def __str__(self) -> str:
        """Return `name: ok`, or `name: fails: message`."""
        return f"{self.name}: ok" if self.ok else f"{self.name}: fails: {self.message}"


def run_check(check: ContractCheck, subject: Any) -> CheckResult:
    """Run a check on a component or a class; any exception is a failure."""
    name = check.__name__.replace("_", "-")
    try:
        check(subject)
    except AssertionError as error:
        return CheckResult(name, False, _one_line(str(error) or "an assertion failed"))
    except Exception as error:
        return CheckResult(name, False, _one_line(f"it raised {type(error).__name__}: {error}"))
    return CheckResult(name, True)


def require(condition: object, message: str) -> None:
    """Raise AssertionError with the message unless the condition is true."""
    if not condition:
        raise AssertionError(message)


def require_pure(
    function: Callable[[Any], Any], arguments: Sequence[Any], message: str, owner: type
) -> None:
    """Require the same results forwards and backwards, and with another clock.

    `owner` is the class of the component, whose module may have imported functions of `time`.
    """
    forwards = [function(argument) for argument in arguments]
    backwards = [function(argument) for argument in reversed(arguments)]
    require(forwards == backwards[::-1], message)
    with _a_day_later(owner):
        later = [function(argument) for argument in arguments]
    require(forwards == later, f"{message}; it depends on the clock")


@contextmanager
def _a_day_later(owner: type) -> Iterator[None]:
    """Let `time` and `datetime` show the next day, for a module that has imported them too.

    Other threads keep their time: a server's or a tracker's loop would otherwise sleep for a day.
    """
    module = sys.modules.get(owner.__module__)
    clocks: list[tuple[Any, str, Any]] = [
        (time, name, partial(_add, getattr(time, name), get_ident()))
        for name in ("time", "monotonic", "perf_counter", "process_time")
    ]
    clocks += [(datetime, cls.__name__, _later(cls)) for cls in (datetime.date, datetime.datetime)]
    with ExitStack() as patches:
        for place, name, later in clocks:
            clock = getattr(place, name)
            patches.enter_context(patch.object(place, name, later))
            for key in [key for key, value in vars(module).items() if value is clock]:
                patches.enter_context(patch.object(module, key, later))
        yield


def _add(clock: Callable[[], float], thread: int) -> float:
    return clock() + _LATER * (get_ident() == thread)


def _later(cls: type[datetime.date]) -> type[datetime.date]:
    """Return a subclass of date or datetime whose `today` and `now` are a day later."""
    shift = datetime.timedelta(seconds=_LATER)
    names = [name for name in ("today", "now", "utcnow") if hasattr(cls, name)]
    methods = {name: partial(_moved, getattr(cls, name), shift, get_ident()) for name in names}
    return type(cls.__name__, (cls,), {name: staticmethod(now) for name, now in methods.items()})


def _moved(
    now: Callable[..., datetime.date],
    shift: datetime.timedelta,
    thread: int,
    *args: Any,
    **zone: Any,
) -> datetime.date:
    return now(*args, **zone) + shift * (get_ident() == thread)


@contextmanager
def on_meta(what: str) -> Iterator[None]:
    """Require that the body, which computes on the meta device, needs no values and no CPU."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {str(error).partition('. ')[0]}"
        hint = "create tensors on the device of the input, and read no value such as .item()"
        raise AssertionError(f"{what} fails on another device: {line}; {hint}") from error


def require_picklable(value: object, hint: str) -> None:
    """Require that a value can be sent to a worker process; nothing is unpickled."""
    from multiprocessing.reduction import ForkingPickler

    try:
        ForkingPickler.dumps(value)
    except Exception as error:
        raise AssertionError(f"it cannot be pickled ({error}); {hint}") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())
