"""The folder of an exported model: what it contains, and how it is read.

manifest.json      what the model is, and the SHA-256 and the size of every file; written last
recipe.json        the recipe of the checkpoint
model.safetensors  its weights
model.onnx         the network from pixels to probabilities, or model.pt2
model.int8.onnx    the same in 8-bit integers
labels.json        classes, and fitted thresholds
preprocess.json    how an image becomes the input
golden/            eight images, with the expected answers in golden.json
parity.json        differences from PyTorch on validation images
README.md          the model card
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sightx.errors import Problem, RunError

MANIFEST, RECIPE, WEIGHTS = "manifest.json", "recipe.json", "model.safetensors"
ONNX, INT8 = "model.onnx", "model.int8.onnx"
FORMAT = 1
_TYPE = "sightx-model"


class FileEntry(BaseModel):
    """The hash of one file, and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int

    @classmethod
    def of(cls, content: bytes) -> FileEntry:
        """Return the entry of a file with this content."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


class Figure(BaseModel):
    """A final metric of a checkpoint, as its run has written it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    split: Literal["validation", "test"]
    """The samples that it was computed from."""
    metric: str
    """Its name."""
    value: float
    low: float | None
    """Lower limit of its 95 % interval over groups, such as patients; None if it has none."""
    high: float | None
    """Upper limit."""
    majority: float | None
    """The same metric if the most frequent class is always predicted; None if it is undefined."""


class Manifest(BaseModel):
    """What an exported model is, and the hash of every file of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["sightx-model"] = "sightx-model"
    format: Literal[1] = 1
    """Version of the folder's format."""
    sightx: str
    """The version of SightX that wrote it."""
    id: str
    """RUN@CHECKPOINT, the model's name in every answer."""
    experiment: str
    """SHA-256 of the settings that define the experiment."""
    data: str
    """Hash of the samples that it was trained with."""
    precision: Literal["fp32"] = "fp32"
    """What the exported network computes in."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the probabilities."""
    shape: tuple[int, int, int]
    """Channels, height and width of an input image."""
    figures: tuple[Figure, ...] = ()
    """The metrics of the checkpoint; none if its run has not scored it."""
    files: Mapping[str, FileEntry]
    """Every other file of the folder, by its path in it."""


def is_model_folder(folder: Path) -> bool:
    """Return whether a folder is an exported model, perhaps a damaged one."""
    try:
        return bool(json.loads((folder / MANIFEST).read_bytes())["type"] == _TYPE)
    except (OSError, KeyError, TypeError, ValueError):
        return False


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an exported model. Raises RunError."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise damaged(folder, f"{MANIFEST}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise damaged(folder, f"{MANIFEST}: {place}: {first['msg']}") from None


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Return a file whose hash is that of the manifest. Raises RunError for any other."""
    if name not in manifest.files:
        raise damaged(folder, f"{MANIFEST} does not list {name}")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise damaged(folder, f"{name}: {error.strerror}") from error
    if FileEntry.of(content) != manifest.files[name]:
        raise damaged(folder, f"{name} differs from its hash in {MANIFEST}")
    return content


def damaged(folder: Path, reason: str) -> RunError:
    """Return the error for a folder that is not what was exported."""
    hint = "sightx export RUN --to FOLDER writes another one"
    return RunError(Problem("bad-export", reason, hint, file=str(folder)))
