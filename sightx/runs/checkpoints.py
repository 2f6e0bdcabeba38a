"""Checkpoints on disk: each a directory that is there whole or not at all.

Files go to a temporary sibling and are synced, the manifest of their hashes last; one rename
makes the checkpoint real. Only then do names move, and only then is what no name needs removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightx.errors import Problem, ResourceError, RunError
from sightx.training.state import State

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
NAMES = "names.json"
_TEMPORARY = ".writing-"


def save(folder: Path, state: State, recipe: Mapping[str, Any], names: Collection[str]) -> Path:
    """Write a state under `folder`, let `names` point to it, and remove what no name needs.

    `recipe` is what a prediction needs beside the weights. Raises ResourceError.
    """
    files = {
        "model.safetensors": _tensors(state.weights),
        "optimizer.safetensors": _tensors(state.optimizer),
        "state.json": _json(state.record),
        "recipe.json": _json(recipe),
    }
    # An epoch's end and the moment before its validation are one step, but not one state.
    name = f"step-{state.record['step']:08}" + ("" if state.whole else "-running")
    try:
        _commit(folder, name, files)
        pointers = {**read_names(folder), **dict.fromkeys(names, name)}
        write_file(folder / NAMES, _json(pointers))
        _prune(folder, set(pointers.values()))
    except OSError as error:
        message = f"cannot write the checkpoint {folder / name}: {error.strerror}"
        raise ResourceError(
            Problem("checkpoint-write", message, "free space, then run again")
        ) from error
    return folder / name


def load(path: Path) -> State:
    """Read a checkpoint. Raises RunError where a file is missing, or not what was written."""
    files = verified(path)
    record = json.loads(files["state.json"])
    return State(weights(files), _load_tensors(files["optimizer.safetensors"]), record)


def weights(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """Return a verified checkpoint's weights, on the CPU."""
    return _load_tensors(files["model.safetensors"])


def verified(path: Path) -> dict[str, bytes]:
    """Return a checkpoint's files, each compared with the hash in the manifest."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files = {name: (path / name).read_bytes() for name in manifest}
    except (OSError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != manifest[name]:
            raise _damaged(path, f"{name} is not what was written")
    if not {"model.safetensors", "recipe.json"} <= set(files):
        raise _damaged(path, "the manifest is not whole")
    return files


def read_names(folder: Path) -> dict[str, str]:
    """Return which checkpoint each name points to."""
    path = folder / NAMES
    try:
        names = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise _damaged(path, f"is no JSON ({error})") from error
    if not isinstance(names, dict):
        raise _damaged(path, "holds no names")
    return names


def write_file(path: Path, content: bytes) -> None:
    """Replace a file in one step, durably."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    _write(temporary, content)
    temporary.replace(path)
    _sync(path.parent)


def _commit(folder: Path, name: str, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_TEMPORARY}*"):  # from a process that was killed
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    if (folder / name).is_dir():
        return  # a checkpoint never changes once it is there
    temporary = folder / f"{_TEMPORARY}{name}"
    temporary.mkdir()
    for file, content in files.items():
        _write(temporary / file, content)
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    _write(temporary / MANIFEST, _json(hashes))
    _sync(temporary)
    temporary.rename(folder / name)
    _sync(folder)


def _prune(folder: Path, needed: Collection[str]) -> None:
    for path in folder.glob("step-*"):
        if path.name not in needed:
            shutil.rmtree(path)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        _full_sync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full_sync(descriptor: int) -> None:
    """Sync to the medium; macOS's fsync stops at the drive's cache."""
    import fcntl

    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _tensors(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save as to_bytes

    return to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _load_tensors(content: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load as from_bytes

    return from_bytes(content)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(Problem("bad-checkpoint", reason, "use another checkpoint", file=str(path)))
