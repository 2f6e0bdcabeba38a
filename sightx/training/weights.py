"""Weights to begin with: from a file, or from the source that a model knows by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sightx.errors import Problem, ResourceError, RunError
from sightx.registry.kinds import Model

if TYPE_CHECKING:
    from torch import Tensor


def initialise(model: Model, module: nn.Module, source: str) -> None:
    """Load what `source` names, a file or a name that the model knows, into a fresh network.

    Raises ResourceError where it cannot be had, RunError where it does not fit.
    """
    if source.endswith((".safetensors", ".pt", ".pth")):
        _load(module, Path(source))
    elif source != "none":
        model.initialise(module)


def _load(module: nn.Module, path: Path) -> None:
    state = _read(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        message = f"does not fit the network: {reason}"
        raise RunError(
            Problem("weights-shape", message, path="model.weights", file=str(path))
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; nothing in it is run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # what torch would say is said below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        message = "there is no such file"
        raise ResourceError(
            Problem("no-weights", message, path="model.weights", file=str(path))
        ) from error
    except SafetensorError as error:
        message = f"is damaged or cut: {error}"
        raise RunError(
            Problem("bad-weights", message, path="model.weights", file=str(path))
        ) from error
    except Exception as error:  # torch's own text advises weights_only=False: it is never shown
        message = "holds no weights that can be read without running code"
        hint = "save it as .safetensors"
        raise RunError(Problem("bad-weights", message, hint, "model.weights", str(path))) from error
    if not isinstance(loaded, dict) or not all(map(torch.is_tensor, loaded.values())):
        message, hint = "holds no table of weights", "save model.state_dict()"
        raise RunError(Problem("bad-weights", message, hint, "model.weights", str(path)))
    return loaded
