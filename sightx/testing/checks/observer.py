"""Checks of observers."""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sightx.plugin import Observer, PluginError
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.fixtures import run_experiment

if TYPE_CHECKING:
    from collections.abc import Mapping


def run_is_not_changed(observer: Observer) -> None:
    """Require at least one hook, none that fails, and the metrics of a run without observers."""
    try:
        metrics, log = _run({observer.name: observer})
    except PluginError as error:
        raise AssertionError(f"{error}; add a method with the name of a run hook") from error
    failed = [line for line in log.splitlines() if line.startswith(f"observer {observer.name} ")]
    require(not failed, f"in a run of two epochs: {''.join(failed[:1])}")
    require(
        metrics == _metrics_without_observers(),
        "with the observer, a run has other metrics; an observer must not change the run",
    )


@cache
def _metrics_without_observers() -> str:
    return _run({})[0]


def _run(observers: Mapping[str, Observer]) -> tuple[str, str]:
    """Return the metrics of a run, and its console.log."""
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder, redirect_stdout(io.StringIO()):
        run = run_experiment(Path(folder), observers)
        log = run.directory / "console.log"
        timings = ["seconds", "images_per_second", "data_wait"]
        metrics = run.metrics.drop(columns=timings).to_json()
        return metrics, log.read_text(encoding="utf-8") if log.is_file() else ""


CHECKS: tuple[ContractCheck, ...] = (run_is_not_changed,)
