"""Published weights: named, downloaded once, verified and loaded."""

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

from sightx.plugin import (
    WEIGHTS_SUFFIXES,
    Model,
    Problem,
    ResourceError,
    RunError,
    SpecError,
    Statistics,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's red, green and blue, for pixels in [0, 1]."""

_log = logging.getLogger("sightx")


class PretrainedModel(Model):
    """A model that accepts only known names in the field `weights`."""

    pretrained: ClassVar[tuple[str, ...]] = ()
    """The names of published weights."""

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, weights: str) -> str:
        names = ("none", *cls.pretrained)
        if weights in names or weights.startswith("run:") or weights.endswith(WEIGHTS_SUFFIXES):
            return weights
        choices = f"{', '.join(names)}, a {'/'.join(WEIGHTS_SUFFIXES)} path, run:ID"
        raise ValueError(f"{weights!r} must be {choices}")


def load_pretrained(
    module: nn.Module,
    entry: Any,
    *,
    head: str,
    ignored: tuple[str, ...],
    rename: Callable[[str], str] = str,
) -> None:
    """Download the weights of one of torchvision's entries and load them into a module.

    Args:
        module: The network; only its weights whose names start with `head` may be missing.
        entry: A member of a `torchvision.models.WeightsEnum`.
        head: Prefix of the last layer's names in the module.
        ignored: Prefixes of names in the file that are not loaded.
        rename: Maps a name in the file to a name in the module.

    Raises:
        ResourceError: The file cannot be fetched, or has the wrong hash.
        RunError: The file cannot be read without running code.
        SpecError: The weights do not fit.
    """
    import torch

    path = download(entry.url, entry.meta["_file_size"])
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Torch's own message advises weights_only=False: do not show it.
        message = f"{path} holds no weights that can be read without running code"
        raise RunError(Problem("bad-weights", message, path="model.weights")) from error
    for name in list(state):  # In place, because the mapping carries the versions of its modules.
        value = state.pop(name)
        if not name.startswith(ignored):
            state[rename(name)] = value
    if mismatch := _load_state(module, state, head):
        message = f"the weights of {path.name} do not fit: {mismatch}"
        raise SpecError(Problem("weights-mismatch", message, path="model.weights"))


def _load_state(module: nn.Module, state: dict[str, Tensor], head: str) -> str:
    """Load a state; return which weights do not match, "" if all match."""
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # A shape differs: a headline, then one line per weight.
        return str(error).splitlines()[-1].strip()
    absent = [f"no {name}" for name in missing if not name.startswith(head)]
    return ", ".join(absent + [f"unknown {name}" for name in unexpected])


def download(url: str, megabytes: float) -> Path:
    """Return the path of a URL's file in torch's cache; download it if it is not there.

    Its SHA-256 must be the one in `pretrained.sha256`; for a file that is not listed there, it must
    start with the digits in the file's name. Processes that want the same file wait for the one
    that downloads it. Raise ResourceError if the file cannot be fetched or has the wrong hash.
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
        verify_hash(path, f"delete {path} to download it again")
    except (OSError, HTTPException) as error:
        message = f"cannot get {url}: {error}"
        hint = f'put the file at {path}, or set model.weights to a "path.pth" or "none"'
        raise ResourceError(
            Problem("weights-unavailable", message, hint, path="model.weights")
        ) from None
    return path


def _download(url: str, path: Path, megabytes: float) -> None:
    """Download to a temporary folder next to `path`, verify, and move the file there."""
    import torch

    _log.info("downloading %s (%.0f MB) to %s", url, megabytes, path)
    with TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder, path.name)
        torch.hub.download_url_to_file(url, str(part), progress=sys.stderr.isatty())
        verify_hash(part, f"run again, or put the right file at {path}")
        part.replace(path)


def verify_hash(path: Path, hint: str) -> None:
    """Raise ResourceError, with a hint, unless a published file has the hash that is known."""
    expected = known_hashes().get(path.name) or hash_prefix(path.name)
    if not expected:
        message = f"the SHA-256 of {path.name} is not known"
        raise ResourceError(Problem("weights-hash", message, hint, path="model.weights"))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(expected):
        message = f"the SHA-256 of {path.name} starts with {digest[:8]}, expected {expected[:16]}"
        raise ResourceError(Problem("weights-hash", message, hint, path="model.weights"))


@cache
def known_hashes() -> dict[str, str]:
    """Return the SHA-256 of published files, by file name."""
    text = Path(__file__).with_suffix(".sha256").read_text(encoding="utf-8")
    return {name: digest for digest, name in map(str.split, text.splitlines())}


def hash_prefix(name: str) -> str:
    """Return the first digits of the SHA-256 that a file name contains, such as `-0123abcd.`."""
    match = re.search(r"-([0-9a-f]{8,64})\.", name)
    return match[1] if match else ""
