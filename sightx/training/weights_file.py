"""Read the tensors of a file of weights; nothing that a file contains is ever executed.

A .safetensors file has a header of JSON and raw tensors. The files of `torch.save` are read by
torch's restricted reader; what training frameworks store next to the weights, such as settings, is
replaced by inert values.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sightx.errors import Problem, ResourceError, RunError
from sightx.io.files import shell_path

if TYPE_CHECKING:
    from torch import Tensor

Tables = Mapping[str, Mapping[str, "Tensor"]]
"""Tables of tensors by their dotted key in a file; the key of the whole file is ""."""

MAX_HEADER = 10_000_000
"""Bytes of the header of a .safetensors file; 10,000 tensors need about 1 MB."""

_WEIGHTS = "model.safetensors"
# The other files of a checkpoint of SightX that somebody may take for its weights.
_CHECKPOINT_PARTS = {
    "optimizer.safetensors": "the state of the optimizer",
    "loss.safetensors": "the tensors of the loss",
    "state.json": "the progress of the training",
    "recipe.json": "the settings for predicting",
    "manifest.json": "the list of hashes",
}
_OPTIMIZER_STATE = re.compile(r"\d+\.(?!weight$|bias$)[a-z_]+")  # as in 0.exp_avg
_COPY_AGAIN = "copy or download it again"
_DEPTH = 3  # how deep a table of weights may lie in a file
_SAVE_WEIGHTS = "save model.state_dict() where the file was made"
_PYTHON_MODULES = sys.stdlib_module_names | {"__builtin__", "commands"}  # also of Python 2
_HARMLESS_MODULES = frozenset(
    {"argparse", "collections", "copyreg", "datetime", "decimal", "enum", "functools", "pathlib",
     "types", "typing", "uuid"}
)  # fmt: skip


def require_file(path: Path, hint: str = "") -> None:
    """Raise ResourceError, with a hint, unless there is a regular file at a path."""
    if path.is_file():
        return
    message = "it is not a regular file" if path.exists() else "there is no such file"
    raise ResourceError(Problem("no-weights", message, hint, "model.weights", str(path)))


def read_tables(path: Path) -> Tables:
    """Return the tables of tensors in a file, on the CPU.

    Raises ResourceError if there is no such file, RunError if it cannot be read safely.
    """
    require_file(path)
    _refuse_checkpoint_part(path)
    try:
        if path.suffix == ".safetensors":
            return {"": _read_safetensors(path)}
        return _read_torch(path)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise ResourceError(
            Problem("no-weights", message, "", "model.weights", str(path))
        ) from error


def _refuse_checkpoint_part(path: Path) -> None:
    """Raise RunError for a file that lies next to the weights of a checkpoint."""
    weights = path.with_name(_WEIGHTS)
    if path.name in _CHECKPOINT_PARTS and weights.is_file():
        message = f"it is {_CHECKPOINT_PARTS[path.name]} in a checkpoint, not the weights"
        raise _failure(path, message, f"the weights are {shell_path(weights)}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(MAX_HEADER, path.stat().st_size):
            message = f"the file is damaged or cut: its header says that it has {size} bytes"
            raise _failure(path, message, _COPY_AGAIN)
        header = file.read(size)
    try:
        names = json.loads(header, object_pairs_hook=_without_duplicates)
        tensors = load_file(path)
    except (SafetensorError, ValueError, RecursionError) as error:
        message = f"the file is damaged or cut: {error}"
        raise _failure(path, message, _COPY_AGAIN) from error
    if set(names) - {"__metadata__"} != set(tensors) or not tensors:
        raise _failure(path, "its header does not describe its tensors", _COPY_AGAIN)
    if all(map(_OPTIMIZER_STATE.fullmatch, tensors)):
        message = "it is the state of an optimizer, not the weights of a network"
        raise _failure(path, message, f"give the {_WEIGHTS} of the checkpoint")
    return tensors


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of JSON; raise ValueError if a key occurs twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header names a tensor twice")
    return table


def _read_torch(path: Path) -> Tables:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_archive(path)
    loaded = _load_restricted(path, is_zip=is_zip)
    tables = dict(_iter_tables(loaded))
    if tables:
        return tables
    raise _failure(path, _describe_other(loaded), _SAVE_WEIGHTS)


def _describe_other(loaded: Any) -> str:
    """Return what a file contains that has no table of weights."""
    if not isinstance(loaded, Mapping):
        what = "a whole network" if isinstance(loaded, _Inert) else f"a {type(loaded).__name__}"
        return f"the file is not a table of weights but {what}"
    others = [str(key) for key, value in loaded.items() if not torch.is_tensor(value)]
    if len(others) < len(loaded):
        return f"the file is not a table of weights: {others[0]!r} is not a tensor"
    return f"the file has no table of weights, only {', '.join(others) or 'an empty table'}"


def _check_archive(path: Path) -> None:
    """Raise RunError for an archive of code, and for a compressed one: it could be any size."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise _failure(path, f"the file is damaged or cut: {error}", _COPY_AGAIN) from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        message = "it is a TorchScript archive, which contains code"
        raise _failure(path, message, f"{_SAVE_WEIGHTS}, or as .safetensors")
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        message = f"it is compressed: its {size:,} bytes would expand to {total:,}"
        raise _failure(path, message, "torch.save does not compress: save it again")


def _load_restricted(path: Path, *, is_zip: bool) -> Any:
    """Load a file with torch's restricted reader.

    It refuses every class and function that is not known to be harmless. Those of other packages,
    such as the settings of a training framework, are replaced by inert values: first by objects,
    then, if the file fills them like dictionaries, by dictionaries.
    """
    unknown: list[str] = []
    try:
        with warnings.catch_warnings(action="ignore"):  # the errors below are enough
            if is_zip:
                unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            _refuse_calls(path, unknown)
            try:
                return _load_with(path, [(_Inert, name) for name in unknown])
            except Exception:
                return _load_with(path, [(_InertDict, name) for name in unknown])
    except RunError:
        raise
    except Exception as error:  # torch's text, which advises weights_only=False, is not shown
        message = "the file has no weights that can be read without running code"
        hint = f"{_SAVE_WEIGHTS}, or as .safetensors"
        if unknown:
            message += f": it needs {', '.join(sorted(unknown)[:3])}"
        elif isinstance(error, (RuntimeError, EOFError)):
            message, hint = (
                "the file is damaged or cut, or torch.save did not write it",
                _COPY_AGAIN,
            )
        raise _failure(path, message, hint) from error


def _load_with(path: Path, stand_ins: list[Any]) -> Any:
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_calls(path: Path, names: list[str]) -> None:
    """Raise RunError if a file names parts of Python itself that are not plain data types."""
    for name in sorted(names):
        module = name.partition(".")[0]
        if module in _PYTHON_MODULES and module not in _HARMLESS_MODULES:
            message = f"the file would call {name}: it may be malicious"
            raise _failure(path, message, "use weights of another origin")


class _Inert(list[Any]):
    """An object that takes the place of one that a file describes, and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class _InertDict:
    """A stand-in for a class whose objects are filled like dictionaries."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """Return an empty dictionary of the type that torch's reader fills."""
        return OrderedDict()


def _iter_tables(
    value: Any, key: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each dictionary in a file that has nothing but tensors, with its dotted key."""
    if not isinstance(value, Mapping) or depth > _DEPTH:
        return
    if not all(isinstance(name, str) for name in value):
        return
    if value and all(map(torch.is_tensor, value.values())):
        yield key, _without_average_count(dict(value))
        return
    for name, item in value.items():
        yield from _iter_tables(item, f"{key}.{name}" if key else name, depth + 1)


def _without_average_count(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the counter that `torch.optim.swa_utils.AveragedModel` stores next to its module."""
    rest = {name: tensor for name, tensor in tensors.items() if name != "n_averaged"}
    return rest if rest and all(name.startswith("module.") for name in rest) else tensors


def _failure(path: Path, message: str, hint: str) -> RunError:
    return RunError(Problem("bad-weights", message, hint, "model.weights", str(path)))
