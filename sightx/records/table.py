"""A dataset is a table: one row a sample, and a way to read its image."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from sightx.errors import DataError, Problem
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

SPLITS = ("train", "validation", "test")


class DecodeInfo(NamedTuple):
    """Say how images were decoded, and for how many steps of a chain they were reduced."""

    mode: Literal["scaled", "exact"] = "exact"
    steps: int | None = None  # all


@dataclass(frozen=True)
class ImageTable:
    """Hold the samples of a dataset.

    `frame` has the columns `path` (what names the sample, unique), `label` (a position in
    `classes`), `group` ("" where samples stand alone), and may have `split`, `line` (the row in
    the file that told of the sample) and `digest` (the SHA-256 of the image's content, in
    hexadecimal, where the dataset knows it). `read(index)` returns row `index`'s image as encoded
    bytes, or as uint8 pixels (H, W, 3) where there are no files; it is called from several threads
    at once. `source` names the file of the labels, `root` the folder that the paths are below, None
    without files; `skipped` maps the paths of rows that were left out to the reason. `prepared` are
    the samples' pixels where they were prepared before, by the components that `chain` describes;
    `read` then returns those, and `decoded` says how the images were decoded for them.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    read: Callable[[int], bytes | np.ndarray[Any, Any]]
    ordered: bool = False
    source: str = ""
    root: Path | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    prepared: PixelRows | None = None
    chain: tuple[Mapping[str, Any], ...] = ()
    decoded: DecodeInfo = field(default_factory=DecodeInfo)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.frame)

    @property
    def labels(self) -> np.ndarray[Any, Any]:
        """Return the labels, int64 (N,)."""
        return self.frame["label"].to_numpy(np.int64)

    @property
    def groups(self) -> np.ndarray[Any, Any]:
        """Return the groups; a sample without one is a group of its own."""
        pairs = zip(self.frame["group"], self.frame["path"], strict=True)
        # No cell holds a NUL, so a path never meets a group. (pandas would lose it.)
        return np.array([str(group) or f"\0{path}" for group, path in pairs], dtype=object)

    @cached_property
    def contents(self) -> Hashes | None:
        """Return the hashes of what `read` returns, where the dataset knows them.

        Of images that were prepared before it knows what they were made of, not what they are.
        """
        known = "digest" in self.frame and not self.chain
        return Hashes.from_hex(self.frame["digest"]) if known else None

    @property
    def files(self) -> FileReader | None:
        """Return which file each row is, where `read` is a `file_reader` and nothing else.

        Only then a file that is the same as before says that the image is: any other reader may
        depend on more.
        """
        found = _file_reader(self.read)
        return found if found and len(found.paths) == len(self) else None

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Return the (C, H, W) that all images have, where the dataset knows one."""
        return self.prepared.shape if self.prepared else None

    @property
    def channels(self) -> int:
        """Return how many channels an image has that is read."""
        return self.shape[0] if self.shape else 3

    def counts(self, rows: np.ndarray[Any, Any] | None = None) -> list[int]:
        """Return the number of samples of each class, in all rows or in some."""
        labels = self.labels if rows is None else self.labels[rows]
        return [int(n) for n in np.bincount(labels, minlength=len(self.classes))]

    def line(self, index: int) -> int:
        """Return the line of the labels' file that told of a row; 0 where there is none."""
        return int(self.frame["line"].to_numpy()[index]) if "line" in self.frame else 0

    def take(self, rows: np.ndarray[Any, Any]) -> ImageTable:
        """Return a table of some rows, in the order given."""
        positions = np.asarray(rows)
        frame = self.frame.iloc[positions].reset_index(drop=True)
        prepared = self.prepared.take(positions) if self.prepared else None
        return replace(self, frame=frame, read=_Taken(self.read, positions), prepared=prepared)

    def with_frame(self, frame: pd.DataFrame) -> ImageTable:
        """Return the table with other columns on the same rows."""
        return replace(self, frame=frame)

    def without(self, reasons: Mapping[str, str]) -> ImageTable:
        """Return the table without the samples that `reasons` names, remembering why."""
        if not reasons:
            return self
        rows = np.flatnonzero(~self.frame["path"].isin(list(reasons)).to_numpy())
        return replace(self.take(rows), skipped={**self.skipped, **reasons})

    @classmethod
    def from_torch(cls, dataset: Dataset[Any], classes: tuple[str, ...]) -> ImageTable:
        """Return a table over a map-style dataset of (image, label).

        An image is a PIL image, a uint8 array (H, W, 3) or (H, W), or a uint8 tensor (3, H, W) or
        (1, H, W), the same at every reading. Every item is read once here, for its label. Raises
        DataError for a label that is no position in `classes`.
        """
        labels = [int(dataset[index][1]) for index in range(len(dataset))]  # type: ignore[arg-type]
        paths = [str(index) for index in range(len(labels))]
        for path, label in zip(paths, labels, strict=True):
            if not 0 <= label < len(classes):
                message = f"label {label} of item {path} is outside 0..{len(classes) - 1}"
                raise DataError(Problem("label-range", message, "declare more classes"))
        frame = pd.DataFrame({"path": paths, "label": labels, "group": ""})
        return cls(frame, classes, _Items(dataset))

    def to_torch(self) -> Dataset[tuple[Tensor, int]]:
        """Return a map-style dataset of uint8 (3, H, W) and label."""
        return _TorchView(self)  # type: ignore[return-value]


def file_reader(root: Path, paths: Sequence[str]) -> Callable[[int], bytes]:
    """Return a reader of files below a folder; a link that leads out of it is not followed."""
    return FileReader(os.path.realpath(root), paths)


def resolve_below(home: str, path: str) -> str:
    """Return the regular file that a path below a folder, itself without links, leads to.

    Raises OSError where there is none, or a link leads out of the folder.
    """
    file = os.path.realpath(os.path.join(home, path))  # noqa: PTH118  a Path costs as much again
    if not file.startswith(home.rstrip("/") + "/"):
        raise OSError(errno.EXDEV, "leads out of the folder of images")
    if not stat.S_ISREG(os.stat(file).st_mode):  # noqa: PTH116
        raise OSError(errno.EINVAL, "not a file")
    return file


class FileFinder:
    """Look at many files below a folder as `locate` does, several times faster.

    Only what `locate` returns is opened: a folder may be replaced after it was looked at here.
    """

    def __init__(self, root: Path) -> None:
        self._home = os.path.realpath(root)
        self._folders: dict[str, str] = {}

    def __call__(self, path: str) -> os.stat_result:
        """Return the state of the regular file that a path leads to. Raises OSError."""
        parent, name = os.path.split(path)
        folder = self._folders.get(parent)
        if folder is None:
            folder = os.path.realpath(os.path.join(self._home, parent))  # noqa: PTH118
            self._folders[parent] = folder
        inside = folder == self._home or folder.startswith(self._home.rstrip("/") + "/")
        if inside and name not in ("", ".", ".."):
            found = os.lstat(f"{folder}/{name}")
            if stat.S_ISREG(found.st_mode):
                return found
        return os.stat(resolve_below(self._home, path))  # noqa: PTH116


# Readers are objects, not closures, so that they reach the worker processes of a DataLoader.
@dataclass(frozen=True)
class FileReader:
    """Read files below a folder, itself without links, by their positions in `paths`."""

    home: str
    paths: Sequence[str]

    def __call__(self, index: int) -> bytes:
        """Return what a file holds. Raises OSError."""
        return Path(resolve_below(self.home, self.paths[index])).read_bytes()


@dataclass(frozen=True)
class _Taken:
    read: Callable[[int], bytes | np.ndarray[Any, Any]]
    positions: np.ndarray[Any, Any]

    def __call__(self, index: int) -> bytes | np.ndarray[Any, Any]:
        return self.read(int(self.positions[index]))


def _file_reader(read: Callable[[int], Any]) -> FileReader | None:
    """Return the reader that one is, in the order of its rows; one that was derived is another."""
    if type(read) is FileReader:
        return read
    if type(read) is _Taken and (inner := _file_reader(read.read)):
        return FileReader(inner.home, np.asarray(inner.paths, object)[read.positions].tolist())
    return None


class _Items:
    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset, self._lock = dataset, threading.Lock()

    def __reduce__(self) -> tuple[type[_Items], tuple[Any, ...]]:
        return _Items, (self._dataset,)

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        # Torch promises no dataset that it is asked by one thread at a time; it may hold one open
        # file, give images that are read from it only when they are used, or fill one buffer.
        with self._lock:
            return self._pixels(self._dataset[index][0])

    def _pixels(self, image: Any) -> np.ndarray[Any, Any]:
        import torch
        from PIL.Image import Image

        from sightx.data.decode.decoder import from_pil

        if isinstance(image, Image):
            return from_pil(image)
        array = image.movedim(0, -1).numpy() if torch.is_tensor(image) else np.asarray(image)
        grey = array[..., None] if array.ndim == 2 else array
        return np.repeat(grey, 3 if grey.ndim == 3 and grey.shape[2] == 1 else 1, axis=-1)


class _TorchView:
    """Answer as a map-style dataset does; torch asks for no base class."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        self._labels = table.labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        from sightx.data.preprocess import preprocess_image

        image = preprocess_image(self._table.read(index), (), channels=self._table.channels)
        return image.contiguous(), self._labels[index]
