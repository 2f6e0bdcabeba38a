"""Weights that others have published: named, downloaded once, verified, loaded."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Callable
from functools import cache
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from sightx.plugin import Model, Problem, ResourceError, RunError, SpecError

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's red, green and blue, for pixels in [0, 1]."""

_FILES = (".safetensors", ".pt", ".pth")
_log = logging.getLogger("sightx")


class SourcedModel(Model):
    """A network that refuses weights from where it knows none."""

    sources: ClassVar[tuple[str, ...]] = ()
    """The names of published weights."""

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: str) -> str:
        names = ("none", *cls.sources)
        if weights in names or weights.startswith("run:") or weights.endswith(_FILES):
            return weights
        choices = f"{', '.join(names)}, a {'/'.join(_FILES)} path, run:ID"
        raise ValueError(f"{weights!r} must be {choices}")


def load(
    module: nn.Module,
    entry: Any,
    *,
    head: str,
    dropped: tuple[str, ...],
    rename: Callable[[str], str] = str,
) -> None:
    """Load what one of torchvision's weight entries holds, less the names that begin as `dropped`.

    Only weights under `head` may stay as they are. Raises ResourceError, RunError,
    SpecError.
    """
    import torch

    path = fetch(entry.url, entry.meta["_file_size"])
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own text advises weights_only=False: it is never shown
        message = f"{path} holds no weights that can be read without running code"
        raise RunError(Problem("bad-weights", message, path="model.weights")) from error
    for name in list(state):  # in place: the mapping carries the versions of its modules
        value = state.pop(name)
        if not name.startswith(dropped):
            state[rename(name)] = value
    if wrong := _misfit(module, state, head):
        message = f"the weights of {path.name} do not fit: {wrong}"
        raise SpecError(Problem("weights-mismatch", message, path="model.weights"))


def _misfit(module: nn.Module, state: dict[str, Tensor], head: str) -> str:
    """Load a state and return what of it, or of the module, found no partner."""
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a shape differs: a headline, then a line for each weight
        return str(error).splitlines()[-1].strip()
    absent = [f"no {name}" for name in missing if not name.startswith(head)]
    return ", ".join(absent + [f"unknown {name}" for name in unexpected])


def fetch(url: str, megabytes: float) -> Path:
    """Return the file that a URL names in torch's cache, downloaded if it is not there.

    Its sha256 is compared with the one in `pretrained.sha256`; for a file that is not listed, with
    the first digits in the name. Processes that want one file at once wait for the one that
    downloads it. Raises ResourceError.
    """
    import torch

    from sightx.plugin import file_lock

    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(path.with_name(f".{path.name}.lock")):
                if not path.exists():
                    _download(url, path, megabytes)
        _verify(path, f"delete {path} to have it downloaded again")
    except (OSError, HTTPException) as error:
        message = f"cannot get {url}: {error}"
        hint = f'put the file at {path}, or let model.weights be a "path.pth" or "none"'
        raise ResourceError(
            Problem("weights-unavailable", message, hint, path="model.weights")
        ) from None
    return path


def _download(url: str, path: Path, megabytes: float) -> None:
    """Download beside the file's place and move it there when it proves whole."""
    import torch

    _log.info("downloading %s (%.0f MB) to %s", url, megabytes, path)
    with TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder, path.name)
        torch.hub.download_url_to_file(url, str(part), progress=sys.stderr.isatty())
        _verify(part, f"run again, or put the right file at {path}")
        part.replace(path)


def _verify(path: Path, hint: str) -> None:
    expected = _pinned().get(path.name) or _digits(path.name)
    if not expected:
        message = f"no sha256 is known of {path.name}"
        raise ResourceError(Problem("weights-hash", message, hint, path="model.weights"))
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if not got.startswith(expected):
        message = f"the sha256 of {path.name} begins with {got[:8]}, expected {expected[:16]}"
        raise ResourceError(Problem("weights-hash", message, hint, path="model.weights"))


@cache
def _pinned() -> dict[str, str]:
    """Return the sha256 of published files, by name."""
    text = Path(__file__).with_suffix(".sha256").read_text()
    return {name: digest for digest, name in map(str.split, text.splitlines())}


def _digits(name: str) -> str:
    """Return the first digits of the sha256, where their publisher has put them into the name."""
    found = re.search(r"-([0-9a-f]{8,64})\.", name)
    return found[1] if found else ""
