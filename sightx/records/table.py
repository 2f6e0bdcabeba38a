"""A dataset is a table: one row per sample, and a function that reads its image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sightx.io.files import FileReader
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.records.survey import Survey

if TYPE_CHECKING:
    import pandas as pd

EncodedOrPixels = bytes | np.ndarray[Any, Any]
"""An image as a dataset gives it: the bytes of a file, or uint8 pixels (H, W, C)."""


class DecodeInfo(NamedTuple):
    """How images were decoded, and for how many steps of a chain they were downscaled."""

    mode: Literal["scaled", "exact"] = "exact"
    steps: int | None = None
    """None means all of them."""


@dataclass(frozen=True)
class ImageTable:
    """The samples of a dataset."""

    frame: pd.DataFrame
    """One row per sample: `path` (a unique name), `label` (a position in `classes`), `group` (""
    for none). Optional: `split`; `line` (the row in the file that names the sample); `file`
    (that file, if there are several); `sha256` (the
    hash of the image's content, in hexadecimal, where the dataset knows it)."""
    classes: tuple[str, ...]
    read: Callable[[int], EncodedOrPixels]
    """Returns row `index`'s image: encoded bytes, or uint8 pixels (H, W, 3) if there are no files.
    It is called from several threads at once."""
    ordered: bool = False
    """Whether the classes are grades."""
    source: str = ""
    """The file of the labels, for messages."""
    root: Path | None = None
    """The folder that the paths are below; None without files."""
    survey: Survey = field(default_factory=Survey)
    """What the dataset did not use, or is not sure of."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """The paths of rows that were left out, with the reason."""
    prepared: PixelRows | None = None
    """The samples' preprocessed pixels, if they were preprocessed before; `read` returns those."""
    chain: tuple[Mapping[str, Any], ...] = ()
    """The components that preprocessed them, as tables."""
    decoded: DecodeInfo = field(default_factory=DecodeInfo)
    """How the images were decoded for them."""
    columns: tuple[str, ...] = ()
    """Names of extra columns of the frame, as text; they are those of the dataset's traits."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.frame)

    @property
    def labels(self) -> np.ndarray[Any, Any]:
        """Return the labels, int64 (N,)."""
        return self.frame["label"].to_numpy(np.int64)

    @cached_property
    def groups(self) -> np.ndarray[Any, Any]:
        """Return the groups, (N,); a sample without a group is the only one of its group."""
        columns = (self.frame[name].to_numpy(object) for name in ("group", "path"))
        pairs = zip(*columns, strict=True)
        # No cell holds a NUL, so that a path never equals a group. (pandas would drop the NUL.)
        return np.array([str(group) or f"\0{path}" for group, path in pairs], dtype=object)

    @cached_property
    def hashes(self) -> Hashes | None:
        """Return the hashes of what `read` returns; None if the dataset does not know them.

        For images that were preprocessed before it knows the hashes of the originals only.
        """
        known = "sha256" in self.frame and not self.chain
        return Hashes.from_hex(self.frame["sha256"]) if known else None

    @property
    def files(self) -> FileReader | None:
        """Return the reader of each row's file; None if `read` does more than read files.

        Only of such a table an unchanged file means an unchanged image.
        """
        reader = _file_reader(self.read)
        return reader if reader and len(reader.paths) == len(self) else None

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Return the shape (C, H, W) of every image; None if the dataset does not know one."""
        return self.prepared.shape if self.prepared else None

    @property
    def channels(self) -> int:
        """Return the number of channels of an image that `read` returns."""
        return self.shape[0] if self.shape else 3

    def extra_columns(self, rows: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the cells of each extra column in some rows, (len(rows),) texts."""
        return {name: self.frame[name].to_numpy(object)[rows] for name in self.columns}

    def counts(self, rows: np.ndarray[Any, Any] | None = None) -> list[int]:
        """Return the number of samples per class, in all rows or in some."""
        labels = self.labels if rows is None else self.labels[rows]
        return [int(n) for n in np.bincount(labels, minlength=len(self.classes))]

    def line(self, index: int) -> int:
        """Return the line of a row in the file of labels; 0 if there is none."""
        return int(self.frame["line"].to_numpy()[index]) if "line" in self.frame else 0

    def place(self, index: int) -> tuple[str, int]:
        """Return the file that names a row's sample, and its line there, 0 if there is none."""
        file = self.frame["file"].iat[index] if "file" in self.frame else self.source
        return str(file), self.line(index)

    def take(self, rows: np.ndarray[Any, Any]) -> ImageTable:
        """Return a table of some rows, in the given order."""
        positions = np.asarray(rows)
        frame = self.frame.iloc[positions].reset_index(drop=True)
        prepared = self.prepared.take(positions) if self.prepared else None
        return replace(self, frame=frame, read=_RowReader(self.read, positions), prepared=prepared)

    def with_frame(self, frame: pd.DataFrame) -> ImageTable:
        """Return the table with other columns for the same rows."""
        return replace(self, frame=frame)

    def without(self, reasons: Mapping[str, str]) -> ImageTable:
        """Return the table without the paths in `reasons`, which `skipped` then has."""
        if not reasons:
            return self
        rows = np.flatnonzero(~self.frame["path"].isin(list(reasons)).to_numpy())
        return replace(self.take(rows), skipped={**self.skipped, **reasons})


def count_leaking_groups(frame: pd.DataFrame) -> tuple[int, int]:
    """Return how many groups have samples in several splits, and how many have any in a split."""
    used = frame[(frame["group"] != "") & (frame["split"] != "")]
    splits = used.groupby("group")["split"].nunique()
    return int((splits > 1).sum()), len(splits)


@dataclass(frozen=True)
class _RowReader:
    """Read some rows of another table; an object, so that worker processes can receive it."""

    read: Callable[[int], EncodedOrPixels]
    positions: np.ndarray[Any, Any]

    def __call__(self, index: int) -> EncodedOrPixels:
        return self.read(int(self.positions[index]))


def _file_reader(read: Callable[[int], Any]) -> FileReader | None:
    """Return a reader as one `FileReader` in its order of rows; None for a subclass or another."""
    if type(read) is FileReader:
        return read
    if type(read) is _RowReader and (inner := _file_reader(read.read)):
        paths = np.asarray(inner.paths, object)[read.positions].tolist()
        return replace(inner, paths=paths)
    return None
