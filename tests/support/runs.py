"""Runs in tests: stopping them, and comparing everything that a stop must not change."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sightx
from sightx import Run
from sightx.plugin import Step, hookimpl

TIMES = ("seconds", "images_per_second", "data_wait")
"""Keys of metrics.jsonl and result.json that depend on the clock."""


class StopAt:
    """Observer that sends SIGTERM after some steps, once after each."""

    def __init__(self, *steps: int) -> None:
        self.steps = set(steps)

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        if step.step in self.steps:
            self.steps.remove(step.step)
            signal.raise_signal(signal.SIGTERM)


def only_run(folder: Path) -> Run:
    """Return the single run in a folder."""
    (directory,) = folder.iterdir()
    return sightx.open_run(directory)


def without_times(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without the keys that depend on the clock."""
    return [{key: row[key] for key in row if key not in TIMES} for row in rows]


def epochs_of(run: Run) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl, without times."""
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    return without_times(map(json.loads, lines))


def fingerprint(run: Run) -> dict[str, str]:
    """Return the hash of everything that a stop must not change."""
    contents = {
        f"{name} {file}": (run.checkpoint(name) / file).read_bytes()
        for name in run.checkpoints
        for file in ("model.safetensors", "optimizer.safetensors")
    }
    for name in run.checkpoints:
        state = json.loads((run.checkpoint(name) / "state.json").read_bytes())
        (state,) = without_times([state])
        contents[f"{name} state.json"] = json.dumps(state).encode()
    contents["metrics"] = json.dumps(epochs_of(run)).encode()
    contents["names"] = json.dumps(run.checkpoints, sort_keys=True).encode()
    (result,) = without_times([run.result])
    contents["result"] = json.dumps(result, sort_keys=True).encode()
    for path in sorted((run.directory / "predictions").iterdir()):
        contents[path.name] = path.read_bytes()
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
