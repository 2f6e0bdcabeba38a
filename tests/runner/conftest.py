"""A spec whose checkpoints hold every kind of state, and runs of it that are stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

import sightx
from sightx import Run
from support.runs import StopAt

# 21 training samples in steps of 4: 6 steps per epoch, the last one short.
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
    """A network with batch statistics, dropout and a counter."""

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


@pytest.fixture
def stopped(tmp_path: Path) -> Callable[..., Run]:
    """Run a spec, with overrides, until the signal after a step; return the run."""

    def run(spec: Path, step: int, *overrides: str) -> Run:
        experiment = sightx.load(spec, overrides)
        interrupted = sightx.run(experiment, observers=[StopAt(step)], runs=tmp_path / "runs")
        assert interrupted.result["status"] == "interrupted"
        return interrupted

    return run


@pytest.fixture
def resume_to_the_end() -> Callable[..., Run]:
    """Resume a run until it is finished, and stop it again after some steps."""

    def resume(run: Run, steps: Collection[int] = (), **options: Any) -> Run:
        observers = [StopAt(*steps)]
        while run.result.get("status") not in ("finished", "stopped"):
            run = sightx.resume(run, observers=observers, **options)
        return run

    return resume


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plugins, one for all tests because a process imports a module once."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "test_exact_net.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def exact(folders: Path, plugin: Path, write_spec: Callable[..., Path], tmp_path: Path) -> Path:
    """A spec whose runs resume exactly."""
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{plugin}"]\n')
    return write_spec(SPEC)


@pytest.fixture
def change_origin() -> Callable[..., None]:
    """Change the recorded origin of a component of a run."""

    def change(run: Run, name: str, **values: Any) -> None:
        environment = run.environment
        for origin in environment["components"]:
            if origin["name"] == name:
                origin.update(values)
        run.write_json("environment.json", environment)

    return change
