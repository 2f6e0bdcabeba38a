"""Contract checks: functions that raise AssertionError, with one line, if a component fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ContractCheck = Callable[[Any], None]


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


def require_pure(function: Callable[[Any], Any], arguments: Sequence[Any], message: str) -> None:
    """Require the same results whether the arguments are passed forwards or backwards."""
    forwards = [function(argument) for argument in arguments]
    backwards = [function(argument) for argument in reversed(arguments)]
    require(forwards == backwards[::-1], message)


def require_picklable(value: object, hint: str) -> None:
    """Require that a value can be sent to a worker process; nothing is unpickled."""
    from multiprocessing.reduction import ForkingPickler

    try:
        ForkingPickler.dumps(value)
    except Exception as error:
        raise AssertionError(f"it cannot be pickled ({error}); {hint}") from error


def call_declared(function: Callable[..., Any], /, *arguments: Any, **offered: Any) -> Any:
    """Call a method as the runner does, with only the arguments that it declares."""
    declared = inspect.signature(function).parameters
    return function(*arguments, **{key: offered[key] for key in declared if key in offered})


def _one_line(text: str) -> str:
    return " ".join(text.split())
