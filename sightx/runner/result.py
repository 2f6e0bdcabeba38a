"""The result of a run: result.json is written, however the run ends."""

from __future__ import annotations

import copy
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sightx.errors import Problem, ResourceError, SightXError
from sightx.io.signals import Interrupted
from sightx.registry.failures import expected_failure, plugin_failure
from sightx.registry.registry import Registry
from sightx.runner.observers import Observers
from sightx.runs import sessions, sums
from sightx.runs.directory import Run


class ResultWriter:
    """Collect what result.json will contain, and write it when the run ends.

    Nothing is written while `enabled` is False: on ranks other than 0, and for a resumed run until
    it continues. `registry` attributes a failure to a plugin; `observers` get the result.
    """

    def __init__(
        self, run: Run, registry: Registry, observers: Observers, *, enabled: bool
    ) -> None:
        self.enabled = enabled
        self.result: dict[str, Any] = {"status": "running", "exit": 0}
        self._run, self._registry, self._observers = run, registry, observers
        self._started = time.perf_counter()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write the result of the body; the traceback of a failure goes to error.log.

        An interrupt ends the body without an error if it was recorded.
        """
        try:
            yield
        except Interrupted as interrupted:
            if not self.enabled:
                raise
            self.set_interrupted(interrupted.number)
        except KeyboardInterrupt:  # a second Ctrl-C in a program, before the first one was obeyed
            self.set_interrupted(signal.SIGINT)
            if self.enabled:
                self._write()
            raise
        except BaseException as error:
            failure = expected_failure(error) or plugin_failure(error, self._registry)
            if self.enabled:
                unexpected = Problem("internal", f"{type(error).__name__}: {error}")
                self._write_failure(failure or SightXError(unexpected))
            if failure is None or failure is error:
                raise
            raise failure from error
        if self.enabled:
            self._write()

    def set_interrupted(self, number: int) -> None:
        """Record that a signal has ended the run."""
        self.result |= {"status": "interrupted", "signal": int(number), "exit": 128 + number}

    def _write_failure(self, failure: SightXError) -> None:
        self.result |= {"status": "failed", "error": str(failure), "exit": failure.exit_code}
        with suppress(OSError, ResourceError):  # a full disk must not hide the first error
            self._run.log("error.log", traceback.format_exc())
            self._write()

    def _write(self) -> None:
        self.result["seconds"] = round(time.perf_counter() - self._started, 3)
        self._write_json()
        sessions.end_session(self._run, self.result["status"])
        dropped = len(self._observers.dropped)
        self._observers.call("sightx_run_finished", result=copy.deepcopy(self.result))
        if len(self._observers.dropped) > dropped:
            self._write_json()
        self._observers.repeat_dropped()
        if self._run.directory.is_dir():
            sums.write_sums(self._run.directory)

    def _write_json(self) -> None:
        if dropped := self._observers.dropped:
            reasons = {name: f"dropped: {reason}" for name, reason in dropped.items()}
            self.result["observers"] = reasons
        self._run.write_json("result.json", self.result)
