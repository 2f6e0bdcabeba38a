"""Checkpoints on disk: each a directory that is there whole or not at all.

Files go to a temporary sibling and are synced, the manifest of their hashes last; one rename
makes the checkpoint real. Only then do names move, and only then is what nobody needs removed.
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
from sightx.training.state import State

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
"""The layout of state.json and of what lies beside it; a state of any other is refused."""
MANIFEST = "manifest.json"
NAMES = "names.json"
KEPT = 2
"""How many of the last states stay without a name: one to go on from, one if that is damaged."""

_WEIGHTS, _OPTIMIZER = "model.safetensors", "optimizer.safetensors"
_RECORD, _RECIPE = "state.json", "recipe.json"
_FILES = {_WEIGHTS, _OPTIMIZER, _RECORD, _RECIPE}
_STATE = re.compile(r"step-(\d+)(-running)?")
_UNREADABLE = (KeyError, RuntimeError, TypeError, ValueError, SafetensorError)  # not JSON, or deep
_log = logging.getLogger("sightx")


class FormatError(RunError):
    """Say that a state is of a format that this SightX does not know."""


def save(folder: Path, state: State, recipe: Mapping[str, Any], names: Collection[str]) -> Path:
    """Write a state under `folder` and let `names` point to it; return its directory.

    The last `KEPT` states stay, and those that a name needs. What lies after the new state is of
    a future that did not come about, since a run goes on from an earlier one: it is removed.
    `recipe` is what a prediction needs beside the weights; a state that is there and whole keeps
    its own. Raises ResourceError where the disk refuses: then no part of a state stays, and all
    that was there before does. Raises PluginError for what a state cannot hold.
    """
    files = {
        _WEIGHTS: _tensors(state.weights),
        _OPTIMIZER: _tensors(state.optimizer),
        _RECORD: _record(state.record),
        _RECIPE: _json(recipe),
    }
    files[MANIFEST] = _json({file: _hash(content) for file, content in files.items()})
    # An epoch's end and the moment before its validation are one step, but not one state.
    name = f"step-{state.record['step']:08}" + ("" if state.is_between_epochs else "-running")
    need = sum(map(len, files.values()))
    with atomic.disk_errors(folder, need):
        if not folder.is_dir():
            folder.mkdir()
            atomic.fsync(folder.parent)
        atomic.sweep(folder)
        _commit(folder / name, files, need)
        known = {**read_names(folder), **dict.fromkeys(names, name)}
        pointers = {key: to for key, to in known.items() if _moment(to) <= _moment(name)}
        atomic.replace(folder / NAMES, _json(pointers))
    _prune(folder, name, pointers.values())
    return folder / name


def load_latest(folder: Path) -> tuple[Path, State]:
    """Return the newest state that is whole, and its directory.

    Each one that is not is a warning in the log. Raises RunError where none is whole, or the newest
    that is whole is of another format.
    """
    found = list_states(folder)
    for name in reversed(found):
        try:
            return folder / name, load(folder / name)
        except FormatError:
            raise  # the state before it would be another future
        except RunError as error:
            hint = "the state before it is tried"
            _log.warning("%s", replace(error.problems[0], hint=hint, severity="warning"))
    code, message = "no-checkpoint", "has no state to go on from"
    if found:
        code, message = "bad-checkpoint", f"none of {len(found)} states is whole"
    raise RunError(Problem(code, message, "run the spec again", file=str(folder)))


def list_states(folder: Path) -> list[str]:
    """Return the names of the states under a folder, the oldest first."""
    names = (path.name for path in folder.glob("step-*"))
    return sorted(filter(_STATE.fullmatch, names), key=_moment)


def load(path: Path) -> State:
    """Read a checkpoint.

    Raises RunError where a file is missing, or not what was written, or of another format.
    """
    files = read_verified(path)
    try:
        record = json.loads(files[_RECORD])
    except _UNREADABLE as error:
        raise _damaged(path, f"{_RECORD}: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise _damaged(path, f"{_RECORD} holds no state")
    if (found := record.pop("format", 1)) != FORMAT:  # the first had no number for a while
        message = f"{_RECORD} is of format {found!r}; this SightX knows format {FORMAT}"
        hint = "use the SightX that wrote it"
        raise FormatError(Problem("bad-checkpoint", message, hint, file=str(path)))
    return State(load_weights(files, path), _load(files, _OPTIMIZER, path), record)


def load_weights(files: Mapping[str, bytes], path: Path = Path()) -> dict[str, Tensor]:
    """Return a verified checkpoint's weights, on the CPU. Raises RunError where they are none."""
    return _load(files, _WEIGHTS, path)


def read_verified(path: Path) -> dict[str, bytes]:
    """Return a checkpoint's files, each compared with the hash in the manifest. Raises RunError."""
    manifest = _manifest(path)
    files = {}
    for name in manifest:
        try:
            files[name] = (path / name).read_bytes()
        except OSError as error:
            raise _damaged(path, f"{name}: {error.strerror}") from error
        if _hash(files[name]) != manifest[name]:
            raise _damaged(path, f"{name} is not what was written")
    return files


def read_names(folder: Path) -> dict[str, str]:
    """Return which checkpoint each name points to. Raises RunError."""
    path = folder / NAMES
    try:
        names = json.loads(path.read_text()) if path.is_file() else {}
    except _UNREADABLE as error:
        raise _damaged(path, f"is no JSON ({error})", "delete it: names point nowhere") from error
    if not isinstance(names, dict) or not all(map(_is_state, names.values())):
        raise _damaged(path, "holds no names of states", "delete it: names point nowhere")
    return names


def require_space(folder: Path, state: State, times: int = 2) -> None:
    """Raise ResourceError where the disk of a run does not hold a state so many times.

    Raises PluginError where a network keeps beside its weights what is no tensor.
    """
    for name, value in state.weights.items():
        if not hasattr(value, "element_size"):
            raise _unstorable(name, value)
    tensors = [*state.weights.values(), *state.optimizer.values()]
    need = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    atomic.require_free_space(folder, times * need)


def _manifest(path: Path) -> dict[str, Any]:
    """Return the hash of each file of a checkpoint; all of them lie in its directory."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except OSError as error:
        raise _damaged(path, f"{MANIFEST}: {error.strerror}") from error
    except _UNREADABLE as error:
        raise _damaged(path, f"{MANIFEST}: {error}") from error
    if not isinstance(manifest, dict) or not set(manifest) >= _FILES:
        raise _damaged(path, f"{MANIFEST} is not whole")
    if any(Path(name).name != name or "\0" in name for name in manifest):
        raise _damaged(path, f"{MANIFEST} names a file elsewhere")
    return manifest


def _commit(path: Path, files: Mapping[str, bytes], need: int) -> None:
    if path.exists() and _is_whole(path):
        return  # a checkpoint never changes once it is there
    atomic.require_free_space(path.parent, need)
    with atomic.atomic_directory(path) as temporary:
        for file, content in files.items():  # the manifest is the last
            atomic.write(temporary / file, content)


def _is_whole(path: Path) -> bool:
    try:
        load(path)
    except RunError:
        return False
    return True


def _prune(folder: Path, saved: str, named: Collection[str]) -> None:
    """Remove what nobody needs. What cannot be removed stays: the new state is safe already."""
    past = [name for name in list_states(folder) if _moment(name) <= _moment(saved)]
    try:
        for name in set(list_states(folder)) - {*named, *past[-KEPT:]}:
            atomic.remove(folder / name)
    except OSError as error:
        _log.warning("an old checkpoint cannot be removed from %s: %s", folder, error.strerror)


def _is_state(name: object) -> bool:
    return isinstance(name, str) and _STATE.fullmatch(name) is not None


def _moment(name: str) -> tuple[int, bool]:
    """Return when in the run a state was, as something to sort by."""
    found = _STATE.fullmatch(name)
    return (int(found[1]), not found[2]) if found else (-1, False)


def _tensors(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: _plain(value) for name, value in tensors.items()})


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _load(files: Mapping[str, bytes], name: str, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(files[name])
    except _UNREADABLE as error:
        raise _damaged(path, f"{name}: {error}") from error


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _record(record: Mapping[str, Any]) -> bytes:
    try:
        return _json({"format": FORMAT, **record})
    except (TypeError, ValueError):
        for key, value in _leaves(record):
            if not _storable(value):
                raise _unstorable(key, value) from None
        raise


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that lies in mappings and lists, by its dotted key."""
    if not isinstance(value, Mapping | list | tuple):
        yield key, value
        return
    for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _leaves(item, f"{key}.{name}" if key else str(name))


def _storable(value: object) -> bool:
    finite = isinstance(value, float) and math.isfinite(value)
    return finite or value is None or isinstance(value, str | int)


def _unstorable(name: str, value: object) -> PluginError:
    what = repr(value) if isinstance(value, float) else f"a {type(value).__name__}"
    message = f"no state can hold {name}: it is {what}"
    hint = "keep a tensor of its own for each value: in a network as a buffer"
    return PluginError(Problem("broken-plugin", message, hint))


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _damaged(path: Path, reason: str, hint: str = "RUN@NAME names another checkpoint") -> RunError:
    return RunError(Problem("bad-checkpoint", reason, hint, file=str(path)))
