"""What a run ran on: versions, plugins, device."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any

from sightx.registry import provenance
from sightx.spec.experiment import Experiment, components

if TYPE_CHECKING:
    import torch

_PACKAGES = ("sightx", "torch", "torchvision", "numpy", "pandas", "pillow")


def describe(experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """Return what is recorded about the machine and the code before a run begins."""
    origin = experiment.origin
    registry = origin.registry if origin else None
    return {
        "id": experiment.id,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": {"name": str(device), "model": _model(device)},
        "execution": experiment.execution.model_dump(),
        "overrides": list(origin.overrides) if origin else [],
        "components": [provenance.describe(each, registry) for each in components(experiment)],
        "observers": [provenance.describe(each, registry) for each in experiment.observer],
    }


def _model(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
