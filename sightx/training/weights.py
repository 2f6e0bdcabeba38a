"""Load initial weights from a file, or from a source that the model knows by name."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sightx.errors import Problem, ResourceError, RunError
from sightx.registry.kinds import Model

if TYPE_CHECKING:
    from torch import Tensor

_MAX_HEADER = 10_000_000  # bytes; a network of 10,000 tensors needs 1 MB
_HINT = "they were saved from another network, or for other classes"


def initialise(model: Model, module: nn.Module, source: str) -> None:
    """Load the weights that `source` names into a fresh network.

    Args:
        model: The component that built the network; it loads all sources but files.
        module: The network.
        source: The path of a .safetensors, .pt or .pth file, "none", or a name of the model.

    Raises ResourceError if they cannot be fetched, RunError if they do not fit.
    """
    if source.endswith((".safetensors", ".pt", ".pth")):
        load_strict(module, _read(Path(source)), path="model.weights", file=source)
    elif source != "none":
        model.initialise(module)


def load_strict(
    module: nn.Module, tensors: Mapping[str, Tensor], *, path: str = "", file: str
) -> None:
    """Load tensors into the network, all or none.

    Args:
        module: The network that they were saved from.
        tensors: Its parameters and buffers, by name.
        path: The key in the spec, for the error.
        file: The file of the tensors, for the error.

    Raises RunError, which names the first tensor that does not fit.
    """
    if reason := _mismatch(module.state_dict(), tensors):
        raise RunError(Problem("weights-shape", reason, _HINT, path, file))
    module.load_state_dict(tensors)


def _mismatch(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    """Return what is wrong with the first tensor that does not fit; empty if all fit."""
    for name, tensor in expected.items():
        if name not in got:
            return f"{name}: expected {_shape(tensor)}, got no such tensor"
        if tensor.shape != got[name].shape:
            return f"{name}: expected {_shape(tensor)}, got {_shape(got[name])}"
        if tensor.is_floating_point() != got[name].is_floating_point() or got[name].is_complex():
            return f"{name}: expected {tensor.dtype}, got {got[name].dtype}"
    return next((f"{name}: the network has none" for name in got if name not in expected), "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without running code from it."""
    place = ("model.weights", str(path))
    try:
        if path.suffix == ".safetensors":
            _check_header(path)
            return load_file(path)
        _refuse_compressed(path)
        with warnings.catch_warnings(action="ignore"):  # the errors below are enough
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ResourceError(Problem("no-weights", "there is no such file", "", *place)) from error
    except (SafetensorError, _BadHeaderError) as error:
        message = f"the file is damaged or cut: {error}"
        raise RunError(Problem("bad-weights", message, "", *place)) from error
    except Exception as error:  # torch's text, which advises weights_only=False, is not shown
        message = "the file has no weights that can be read without running code"
        hint = "save it as .safetensors"
        raise RunError(Problem("bad-weights", message, hint, *place)) from error
    if not isinstance(loaded, dict) or not all(map(torch.is_tensor, loaded.values())):
        message, hint = "the file is not a table of weights", "save model.state_dict()"
        raise RunError(Problem("bad-weights", message, hint, *place))
    return loaded


class _BadHeaderError(ValueError):
    """The header of a .safetensors file is too large, or names a tensor twice."""


def _check_header(path: Path) -> None:
    """Raise _BadHeaderError for a header that safetensors itself would read in another way."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(_MAX_HEADER, path.stat().st_size):
            raise _BadHeaderError(f"its header says that it has {size} bytes")
        content = file.read(size)

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise _BadHeaderError("its header names a tensor twice")
        return table

    try:
        json.loads(content, object_pairs_hook=refuse_duplicates)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _BadHeaderError(f"its header is not valid: {error}") from error


def _refuse_compressed(path: Path) -> None:
    """Raise ValueError for a compressed .pt file: torch writes none, and a few bytes could be many.

    A file that is not a zip archive has the format of old versions of torch.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed")
