"""What an observer promises: it hears something, survives a run, and changes nothing."""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.plugin import Observer, PluginError
from sightx.testing.demands import Check, demand
from sightx.testing.worlds import watched_run

if TYPE_CHECKING:
    from collections.abc import Mapping


def watches_a_run(observer: Observer) -> None:
    """Demand at least one hook, none that fails, and a run that is what it is unwatched."""
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        try:
            epochs, log = _trained(Path(folder), {observer.name: observer})
        except PluginError as error:
            raise AssertionError(f"{error}; give it a method of a run hook's name") from error
    failed = [line for line in log.splitlines() if line.startswith(f"observer {observer.name} ")]
    demand(not failed, f"in a run of two epochs: {''.join(failed[:1])}")
    demand(
        epochs == _unwatched(),
        "watched, a run has other figures than unwatched; an observer may only watch",
    )


@cache
def _unwatched() -> str:
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        return _trained(Path(folder), {})[0]


def _trained(folder: Path, observers: Mapping[str, Any]) -> tuple[str, str]:
    """Return the figures of a run, and what its console.log says."""
    with redirect_stdout(io.StringIO()):
        run = watched_run(folder, observers)
    log = run.directory / "console.log"
    figures = run.metrics.drop(columns=["seconds", "images_per_second", "data_wait"]).to_json()
    return figures, log.read_text() if log.is_file() else ""


OBSERVER: tuple[Check, ...] = (watches_a_run,)
