"""What a run ran on: versions, plugins, device."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any

from sightx.spec.experiment import Experiment, components

if TYPE_CHECKING:
    import torch

_PACKAGES = ("sightx", "torch", "torchvision", "numpy", "pandas", "pillow", "scikit-learn")


def describe(experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """Return what is recorded about the machine and the code before a run begins."""
    origin = experiment.origin
    return {
        "id": experiment.id,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": {"name": str(device), "model": _model(device)},
        "execution": experiment.execution.model_dump(),
        "overrides": list(origin.overrides) if origin else [],
        "components": [
            {
                "kind": component.kind,
                "name": component.name,
                "revision": component.revision,
                "module": type(component).__module__,
                **_plugin(experiment, component),
            }
            for component in components(experiment)
        ],
    }


def _plugin(experiment: Experiment, component: Any) -> dict[str, str]:
    if experiment.origin is None:
        return {}
    plugin = experiment.origin.registry.entry(component).plugin
    return {"plugin": plugin.name, "distribution": plugin.distribution, "version": plugin.version}


def _model(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
