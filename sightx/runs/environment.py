"""What a run ran on: versions, plugins, device."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.distributed import rendezvous
from sightx.registry import provenance
from sightx.spec.experiment import Experiment, iter_components

if TYPE_CHECKING:
    import torch

_PACKAGES = ("sightx", "torch", "torchvision", "numpy", "pandas", "pillow")


def describe_environment(experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """Return what is recorded about the machine and the code before a run begins."""
    context = experiment.context
    registry, root = context.registry, context.project.root
    return {
        "id": experiment.id,
        "started": timestamp(),
        "project": str(root),
        "commit": _commit(root),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": {"name": str(device), "model": _model(device)},
        "processes": rendezvous.world_size(),
        "numerics": _numerics(experiment),
        "execution": experiment.execution.model_dump(),
        "overrides": list(context.overrides),
        "experiment": experiment.identity,
        "components": [
            provenance.component_origin(each, registry) for each in iter_components(experiment)
        ],
        "observers": [provenance.component_origin(each, registry) for each in experiment.observer],
    }


def timestamp() -> str:
    """Return the time with its distance from UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _model(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _numerics(experiment: Experiment) -> dict[str, Any]:
    """Return what else decides the last digits of a result."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "deterministic": experiment.execution.deterministic,
        "matmul": torch.get_float32_matmul_precision(),
        "cuda": torch.version.cuda or "",
    }


def _commit(root: Path) -> str:
    """Return the commit of a project and whether files differ from it; "" where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(  # noqa: S603 - nothing in it is anybody's input
            command, cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
