"""How a run ends: whatever happens, result.json says it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from sightx.errors import Problem, ResourceError, SightXError
from sightx.io.signals import Interrupted
from sightx.registry.blame import expected_failure, plugin_failure
from sightx.registry.registry import Registry
from sightx.runs.directory import Run

Told = Callable[[Mapping[str, Any]], None]


class ResultWriter:
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
            failure = expected_failure(error) or plugin_failure(error, self._registry)
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
