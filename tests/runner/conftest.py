"""What tests of the runner share: runs that are stopped, and what must be equal."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

import sightx
from sightx import Run
from sightx.plugin import Observer, Step, hookimpl

# 21 training samples in steps of 4: 6 steps an epoch, the last one short.
SPEC = """
name = "exact"
observer = []
[dataset]
use = "image-folder"
root = "data"
[split]
use = "stratified"
validation = 0.25
test = 0.25
[[preprocess]]
use = "resize"
size = 8
[normalize]
use = "dataset"
[[augment]]
use = "flip"
[[augment]]
use = "rotate"
degrees = 30.0
[[augment]]
use = "color-jitter"
[model]
use = "test-exact-net"
[optimizer]
use = "adamw"
lr = 0.01
[training]
epochs = 4
batch_size = 4
[execution]
threads = 1
"""
PLUGIN = '''
from sightx.plugin import Model, hookimpl

class Net(Model):
    """A net with everything that a state must hold: batch statistics, draws, counters."""

    name = "test-exact-net"

    def build(self, *, channels, outputs, size):
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
            nn.Flatten(), nn.Linear(4 * size[0] * size[1], outputs),
        )

@hookimpl
def sightx_components():
    return [Net]
'''


class Watch(Observer):
    """Hand out an object that is there already."""

    name = "test-watch"

    def watching(self, watcher: object) -> Watch:
        object.__setattr__(self, "_watcher", watcher)
        return self

    def build(self, run: Run) -> object:
        return self._watcher  # type: ignore[attr-defined]


class Stop:
    """Ask the run to end after some steps, each time once."""

    def __init__(self, steps: Collection[int]) -> None:
        self.steps = set(steps)

    @hookimpl
    def sightx_step_finished(self, step: Step) -> None:
        if step.step in self.steps:
            self.steps.remove(step.step)
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def watching() -> Callable[[object], dict[str, Observer]]:
    """Return what lets an object with hooks watch a run."""
    return lambda watcher: {"watch": Watch().watching(watcher)}


@pytest.fixture
def stopped(tmp_path: Path) -> Callable[..., Run]:
    """Run a spec, with overrides, until the signal after a step; return the run."""

    def run(spec: Path, step: int, *overrides: str) -> Run:
        watch = {"stop": Watch().watching(Stop([step]))}
        made = sightx.run(sightx.load(spec, overrides), observers=watch, runs=tmp_path / "runs")
        assert made.result["status"] == "interrupted"
        return made

    return run


@pytest.fixture
def go_on() -> Callable[..., Run]:
    """Resume a run, to be stopped again after some steps, until it is over."""

    def resume(run: Run, steps: Collection[int] = (), **options: Any) -> Run:
        watch = {"stop": Watch().watching(Stop(steps))}
        while run.result.get("status") not in ("finished", "stopped"):
            run = sightx.resume(run, observers=watch, **options)
        return run

    return resume


@pytest.fixture
def fingerprint() -> Callable[[Run], dict[str, str]]:
    """Return the hash of everything that a stop must not change."""

    def of(run: Run) -> dict[str, str]:
        found = {
            f"{name} {file}": (run.checkpoint(name) / file).read_bytes()
            for name in run.checkpoints
            for file in ("model.safetensors", "optimizer.safetensors", "state.json")
        }
        lines = (run.directory / "metrics.jsonl").read_text().splitlines()
        timeless = [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in lines
        ]
        found["metrics"] = json.dumps(timeless).encode()
        found["names"] = json.dumps(run.checkpoints, sort_keys=True).encode()
        found["result"] = json.dumps(
            {k: v for k, v in run.result.items() if k not in TIMES}, sort_keys=True
        ).encode()
        for path in sorted((run.directory / "predictions").iterdir()):
            found[path.name] = path.read_bytes()
        return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}

    return of


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests: a process imports a module once."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "test_exact_net.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def exact(folders: Path, plugin: Path, write_spec: Callable[..., Path], tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{plugin}"]\n')
    return write_spec(SPEC)


@pytest.fixture
def recorded_as() -> Callable[..., None]:
    """Change what a run has recorded of a component."""

    def change(run: Run, name: str, **values: Any) -> None:
        environment = run.environment
        for each in environment["components"]:
            if each["name"] == name:
                each.update(values)
        run.write_json("environment.json", environment)

    return change


TIMES = ("seconds", "images_per_second", "data_wait")
