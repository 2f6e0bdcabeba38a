"""What a check is: a function that raises AssertionError, one line, where a promise is broken."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Check = Callable[[Any], None]


@dataclass(frozen=True)
class Finding:
    """Say what one check found; `message` is empty where all is well."""

    name: str
    ok: bool
    message: str = ""

    def __str__(self) -> str:
        """Return `name: ok`, or `name: fails: why`."""
        return f"{self.name}: ok" if self.ok else f"{self.name}: fails: {self.message}"


def demand(kept: object, message: str) -> None:
    """Raise AssertionError with the message unless the promise is kept."""
    if not kept:
        raise AssertionError(message)


def demand_picklable(value: object, way_out: str) -> None:
    """Raise AssertionError unless worker processes can be sent the value; nothing is unpickled."""
    from multiprocessing.reduction import ForkingPickler

    try:
        ForkingPickler.dumps(value)
    except Exception as error:  # of whatever the value holds
        raise AssertionError(f"it cannot be pickled ({error}); {way_out}") from error


def find(check: Check, subject: Any) -> Finding:
    """Return what a check finds; an exception of the component's own is a failure too."""
    name = check.__name__.replace("_", "-")
    try:
        check(subject)
    except AssertionError as error:
        return Finding(name, False, _line(str(error) or "an assertion failed"))
    except Exception as error:
        return Finding(name, False, _line(f"it raised {type(error).__name__}: {error}"))
    return Finding(name, True)


def offer(function: Callable[..., Any], /, *arguments: Any, **offered: Any) -> Any:
    """Call a component's method as the runner does: with just the arguments it declares."""
    declared = inspect.signature(function).parameters
    return function(*arguments, **{key: offered[key] for key in declared if key in offered})


def _line(text: str) -> str:
    return " ".join(text.split())
