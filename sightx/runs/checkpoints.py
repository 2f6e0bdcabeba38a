"""Checkpoints on disk: each is a directory that is complete or does not exist.

Files are written to a temporary sibling and synced, the manifest with their hashes last. One
rename makes the checkpoint visible; then names move to it, and then old checkpoints are removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError

from sightx.errors import PluginError, Problem, RunError
from sightx.io import atomic
from sightx.io.files import json_bytes
from sightx.training.state import State

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
"""The format of state.json and of the files next to it; no other format can be read."""
MANIFEST = "manifest.json"
NAMES = "names.json"
_NAMES_COPY = "names-copy.json"
WEIGHTS = "model.safetensors"
LAST = "last"
"""The name of the newest checkpoint, which every run has."""
KEEP_LAST = 2
"""How many of the newest checkpoints stay without a name: one to resume from, and one before it."""

_OPTIMIZER = "optimizer.safetensors"
_STATE, _RECIPE = "state.json", "recipe.json"
_FILES = {WEIGHTS, _OPTIMIZER, _STATE, _RECIPE}  # in every checkpoint
# The file of each field of a state that holds tensors.
_TENSORS = {
    "weights": WEIGHTS,
    "optimizer": _OPTIMIZER,
    "loss": "loss.safetensors",
    "training_weights": "training-weights.safetensors",
}
_DIRECTORY_NAME = re.compile(r"step-(\d{8,})(-running)?")
_PARSE_ERRORS = (KeyError, RuntimeError, TypeError, ValueError, SafetensorError)
_log = logging.getLogger("sightx")


class FormatError(RunError):
    """A checkpoint has a format that this version of SightX cannot read."""


def save(folder: Path, state: State, recipe: Mapping[str, Any], names: Collection[str]) -> Path:
    """Write a checkpoint below `folder`, let `names` point to it, and return its directory.

    The newest `KEEP_LAST` checkpoints stay, and all that a name points to. Checkpoints of later
    steps are removed: a run that was resumed from an earlier step may not reach them again. An
    undamaged checkpoint of the same step is kept as it is. `recipe` is what a prediction needs in
    addition to the weights, as JSON values.

    Raises ResourceError if the disk refuses: all earlier checkpoints are unchanged. Raises
    PluginError if the state holds a value that cannot be stored.
    """
    files = {
        _TENSORS[kind]: _tensors_to_bytes(tensors)
        for kind, tensors in state.tensors.items()
        if tensors or _TENSORS[kind] in _FILES
    }
    files |= {_STATE: _record_to_bytes(state.record), _RECIPE: json_bytes(recipe)}
    files[MANIFEST] = json_bytes({file: _sha256(content) for file, content in files.items()})
    # Before and after the validation of an epoch there are two states of the same step.
    name = f"step-{state.record['step']:08}" + ("" if state.is_between_epochs else "-running")
    need = sum(map(len, files.values()))
    with atomic.run_disk_errors(folder, need):
        if not folder.is_dir():
            folder.mkdir()
            atomic.fsync(folder.parent)
        atomic.sweep(folder)
        _write_checkpoint(folder / name, files, need)
        pointers = {**read_names(folder), **dict.fromkeys(names, name)}
        pointers = {key: to for key, to in pointers.items() if _order(to) <= _order(name)}
        for file in (NAMES, _NAMES_COPY):
            atomic.replace(folder / file, json_bytes(pointers))
    _prune(folder, name, pointers.values())
    return folder / name


def load_latest(folder: Path) -> tuple[Path, State]:
    """Return the directory and the state of the newest undamaged checkpoint.

    Damaged ones are logged as warnings. Raises RunError if there is none, or if the newest one that
    is complete has another format.
    """
    names = list_checkpoints(folder)
    for name in reversed(names):
        try:
            return folder / name, load(folder / name)
        except FormatError:
            raise  # the checkpoint before it would lead to another result
        except RunError as error:
            hint = "the checkpoint before it is tried"
            _log.warning("%s", replace(error.problems[0], hint=hint, severity="warning"))
    code, message = "no-checkpoint", "there is no checkpoint to resume from"
    if names:
        code, message = "bad-checkpoint", f"all checkpoints ({len(names)}) are damaged"
    raise RunError(Problem(code, message, "start a new run of the spec", file=str(folder)))


def list_checkpoints(folder: Path) -> list[str]:
    """Return the names of the checkpoint directories in a folder, the oldest first."""
    names = (path.name for path in folder.glob("step-*"))
    return sorted(filter(_DIRECTORY_NAME.fullmatch, names), key=_order)


def load(path: Path) -> State:
    """Read a checkpoint.

    Raises RunError if a file is missing, differs from its hash, or has another format.
    """
    files = read_verified(path)
    try:
        record = json.loads(files[_STATE])
    except _PARSE_ERRORS as error:
        raise _damaged(path, f"{_STATE}: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise _damaged(path, f"{_STATE} does not hold a state")
    version = record.pop("format", 1)  # the first checkpoints had no format number
    if version != FORMAT:
        message = f"{_STATE} has format {version!r}; this SightX reads format {FORMAT}"
        hint = "use the SightX that wrote it"
        raise FormatError(Problem("bad-checkpoint", message, hint, file=str(path)))
    tensors = {
        kind: _parse_tensors(files, file, path) for kind, file in _TENSORS.items() if file in files
    }
    return State(record=record, **tensors)


def parse_weights(files: Mapping[str, bytes], path: Path = Path()) -> dict[str, Tensor]:
    """Return the weights in the files of a checkpoint, on the CPU. Raises RunError."""
    return _parse_tensors(files, WEIGHTS, path)


def read_verified(path: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint, compared with the hashes in its manifest.

    Raises RunError for the first file that is missing or differs.
    """
    manifest = _read_manifest(path)
    files = {}
    for name in manifest:
        try:
            files[name] = (path / name).read_bytes()
        except OSError as error:
            raise _damaged(path, f"{name}: {error.strerror}") from error
        if _sha256(files[name]) != manifest[name]:
            raise _damaged(path, f"{name} differs from its hash in {MANIFEST}")
    return files


def read_names(folder: Path) -> dict[str, str]:
    """Return the directory name of each named checkpoint.

    A file that is missing or damaged is replaced by its copy, with a warning. Raises RunError if
    both are damaged.
    """
    if not any((folder / file).is_file() for file in (NAMES, _NAMES_COPY)):
        return {}
    try:
        return _parse_names(folder / NAMES)
    except RunError as error:
        if not (folder / _NAMES_COPY).is_file():
            raise
        names = _parse_names(folder / _NAMES_COPY)
        hint = f"{_NAMES_COPY} is used"
        _log.warning("%s", replace(error.problems[0], hint=hint, severity="warning"))
        return names


def _parse_names(path: Path) -> dict[str, str]:
    last = next(reversed(list_checkpoints(path.parent)), "step-00000000")
    hint = f'write the best checkpoint into it: {{"best": "step-...", "last": "{last}"}}'
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}", hint) from error
    except _PARSE_ERRORS as error:
        raise _damaged(path, f"not valid JSON ({error})", hint) from error
    if not isinstance(names, dict) or not all(map(_is_directory_name, names.values())):
        raise _damaged(path, "does not map names to checkpoints", hint)
    return names


def require_space(folder: Path, state: State, times: int = 2) -> None:
    """Raise ResourceError if the disk has no room for `times` copies of a state.

    Raises PluginError if the network has a value in its state that is not a tensor.
    """
    for name, value in state.weights.items():
        if not hasattr(value, "element_size"):
            raise _unstorable(name, value)
    tensors = [tensor for named in state.tensors.values() for tensor in named.values()]
    need = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    atomic.require_free_space(folder, times * need)


def weights_hash(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's weights, as its manifest records it; "" if unknown."""
    return recorded_hashes(path).get(WEIGHTS, "")


def recorded_hashes(path: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a checkpoint, from its manifest; {} if that is damaged."""
    try:
        return _read_manifest(path)
    except RunError:
        return {}


def _read_manifest(path: Path) -> dict[str, Any]:
    """Return the hash of each file of a checkpoint; all of them lie in its directory."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise _damaged(path, f"{MANIFEST}: {error.strerror}") from error
    except _PARSE_ERRORS as error:
        raise _damaged(path, f"{MANIFEST}: {error}") from error
    if not isinstance(manifest, dict) or not set(manifest) >= _FILES:
        raise _damaged(path, f"{MANIFEST} is incomplete")
    if any(Path(name).name != name or "\0" in name for name in manifest):
        raise _damaged(path, f"{MANIFEST} names a file outside the checkpoint")
    return manifest


def _write_checkpoint(path: Path, files: Mapping[str, bytes], need: int) -> None:
    if path.exists() and _is_undamaged(path):
        return  # a checkpoint never changes once it exists
    atomic.require_free_space(path.parent, need)
    with atomic.atomic_directory(path) as temporary:
        for file, content in files.items():  # the manifest is the last
            atomic.write(temporary / file, content)


def _is_undamaged(path: Path) -> bool:
    try:
        load(path)
    except RunError:
        return False
    return True


def _prune(folder: Path, saved: str, named: Collection[str]) -> None:
    """Remove old checkpoints without a name; a failure is a warning, as the new one is safe."""
    names = list_checkpoints(folder)
    past = [name for name in names if _order(name) <= _order(saved)]
    try:
        for name in set(names) - {*named, *past[-KEEP_LAST:]}:
            atomic.remove(folder / name)
    except OSError as error:
        _log.warning("an old checkpoint in %s cannot be removed: %s", folder, error.strerror)


def _is_directory_name(name: object) -> bool:
    return isinstance(name, str) and _DIRECTORY_NAME.fullmatch(name) is not None


def _order(name: str) -> tuple[int, bool]:
    """Return a sort key for checkpoint directories: the step, then before or after validation."""
    match = _DIRECTORY_NAME.fullmatch(name)
    return (int(match[1]), not match[2]) if match else (-1, False)


def _tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    )


def _parse_tensors(files: Mapping[str, bytes], name: str, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(files[name])
    except _PARSE_ERRORS as error:
        raise _damaged(path, f"{name}: {error}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _record_to_bytes(record: Mapping[str, Any]) -> bytes:
    try:
        return json_bytes({"format": FORMAT, **record})
    except (TypeError, ValueError):
        for key, value in _iter_leaves(record):
            if not _is_storable(value):
                raise _unstorable(key, value) from None
        raise


def _iter_leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value inside nested mappings and lists, with its dotted key."""
    if not isinstance(value, Mapping | list | tuple):
        yield key, value
        return
    for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _iter_leaves(item, f"{key}.{name}" if key else str(name))


def _is_storable(value: object) -> bool:
    is_finite = isinstance(value, float) and math.isfinite(value)
    return is_finite or value is None or isinstance(value, str | int)


def _unstorable(name: str, value: object) -> PluginError:
    what = repr(value) if isinstance(value, float) else f"a {type(value).__name__}"
    message = f"a checkpoint cannot hold {name}: it is {what}"
    hint = "keep each value in a tensor; a network keeps it as a buffer"
    return PluginError(Problem("broken-plugin", message, hint))


def _damaged(path: Path, reason: str, hint: str = "RUN@NAME names another checkpoint") -> RunError:
    return RunError(Problem("bad-checkpoint", reason, hint, file=str(path)))
