"""How a run ends: whatever happens, result.json says it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from sightx.errors import Problem, ResourceError, SightXError
from sightx.registry.blame import blamed
from sightx.registry.registry import Registry
from sightx.runs.directory import Run
from sightx.runs.signals import Interrupted

Told = Callable[[Mapping[str, Any]], None]


class Outcome:
    """Collect what result.json will say; `told` hears it once it is written.

    While a run has not `begun` to go on, its files are those of before, and stay so.
    """

    def __init__(
        self, run: Run, registry: Registry | None, told: Told, *, begun: bool = True
    ) -> None:
        self.begun = begun
        self.result: dict[str, Any] = {"status": "running", "exit": 0}
        self._run, self._registry, self._told = run, registry, told
        self._started = time.perf_counter()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write the result, whatever happens; a failure's traceback goes to error.log.

        A run that has not begun to go on keeps the result that it has.
        """
        try:
            yield
        except Interrupted as interrupted:
            if not self.begun:
                raise
            signal = {"signal": interrupted.number, "exit": 128 + interrupted.number}
            self.result |= {"status": "interrupted", **signal}
        except BaseException as error:
            failure = expected(error) or blamed(error, self._registry)
            if self.begun:
                unknown = Problem("internal", f"{type(error).__name__}: {error}")
                self._fail(failure or SightXError(unknown))
            if failure is None or failure is error:
                raise
            raise failure from error
        self._finish()

    def _fail(self, failure: SightXError) -> None:
        self.result |= {"status": "failed", "error": str(failure), "exit": failure.exit_code}
        with suppress(OSError, ResourceError):  # a full disk must not hide what came first
            self._run.log("error.log", traceback.format_exc())
            self._finish()

    def _finish(self) -> None:
        self.result["seconds"] = round(time.perf_counter() - self._started, 3)
        self._run.write_json("result.json", self.result)
        self._told(self.result)


def expected(error: BaseException) -> SightXError | None:
    """Return the failure that an error stands for, or None for one that nobody expected."""
    if isinstance(error, SightXError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        hint = "lower training.micro_batch, or prepare.resize.size"
        return ResourceError(Problem("out-of-memory", str(error).split(". ")[0], hint))
    return None
