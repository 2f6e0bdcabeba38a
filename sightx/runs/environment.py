"""The environment of a run: versions, components, device."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.distributed import rendezvous
from sightx.io.system import cpu_count, openmp, processor_name, user_name, utc_time
from sightx.registry import provenance
from sightx.registry.components import Component
from sightx.runs.checkpoints import LAST
from sightx.spec.experiment import Context, Experiment, iter_components

if TYPE_CHECKING:
    import torch

_PACKAGES = ("sightx", "torch", "torchvision", "numpy", "pandas", "pillow")


def describe_environment(
    experiment: Experiment, context: Context, device: torch.device
) -> dict[str, Any]:
    """Return the contents of environment.json: machine, code and experiment."""
    registry, root = context.registry, context.project.root

    def origins(components: Iterable[Component]) -> list[dict[str, Any]]:
        return [provenance.component_origin(component, registry) for component in components]

    return {
        "id": experiment.id,
        "name": experiment.name,
        "started": utc_time(),
        "host": socket.gethostname(),
        "user": user_name(),
        "parents": [],
        "project": str(root),
        "commit": _commit(root),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {"processor": processor_name(), "cores": cpu_count()},
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": {"name": str(device), "model": _device_model(device)},
        "processes": rendezvous.world_size(),
        "numerics": _numerics(experiment),
        "openmp": dict(openmp),
        "execution": experiment.execution.model_dump(),
        "overrides": list(context.overrides),
        "experiment": experiment.identity,
        "components": origins(iter_components(experiment)),
        "observers": origins(experiment.observer),
        "preferred_checkpoints": preferred_checkpoints(experiment),
    }


def preferred_checkpoints(experiment: Experiment) -> list[str]:
    """Return the names of checkpoints to evaluate and predict with, in order of preference.

    First the names of the policies that look for the best state, in the order of the spec.
    """
    return [*(policy.best_name for policy in experiment.checkpoint if policy.best_name), LAST]


def _device_model(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _numerics(experiment: Experiment) -> dict[str, Any]:
    """Return settings of torch that change the last digits of a result."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "deterministic": experiment.execution.deterministic,
        "matmul": torch.get_float32_matmul_precision(),
        "cuda": torch.version.cuda or "",
    }


def _commit(root: Path) -> str:
    """Return the commit of a project, with "-dirty" if files differ from it; "" without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(  # noqa: S603 - no part of the command is input of a user
            command,
            cwd=root,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
