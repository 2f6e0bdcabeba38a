"""A dataset is a table: one row a sample, and a way to read its image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageTable:
    """Hold the samples of a dataset.

    `frame` has the columns `path` (what names the sample, unique), `label` (a position in
    `classes`), `group` ("" where samples stand alone), and may have `split` and `line` (the row in
    the file that told of the sample). `read(index)` returns row `index`'s image as encoded bytes,
    or as uint8 pixels (H, W, 3) where there are no files. `source` names the file of the labels, `root`
    the folder that the paths are below; `skipped` maps rows that were left out to the reason.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    read: Callable[[int], bytes | np.ndarray[Any, Any]]
    ordered: bool = False
    source: str = ""
    root: Path | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

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
        groups = self.frame["group"].astype(str)
        return groups.where(groups != "", "\0" + self.frame["path"].astype(str)).to_numpy()

    def counts(self, rows: np.ndarray[Any, Any] | None = None) -> list[int]:
        """Return the number of samples of each class, in all rows or in some."""
        labels = self.labels if rows is None else self.labels[rows]
        return [int(n) for n in np.bincount(labels, minlength=len(self.classes))]

    def line(self, index: int) -> int:
        """Return the line of the labels' file that told of a row; 0 where there is none."""
        return int(self.frame["line"].iat[index]) if "line" in self.frame else 0

    def take(self, rows: np.ndarray[Any, Any]) -> ImageTable:
        """Return a table of some rows, in the order given."""
        positions = np.asarray(rows)
        read = self.read

        def read_taken(index: int) -> bytes | np.ndarray[Any, Any]:
            return read(int(positions[index]))

        frame = self.frame.iloc[positions].reset_index(drop=True)
        return replace(self, frame=frame, read=read_taken)

    def with_frame(self, frame: pd.DataFrame) -> ImageTable:
        """Return the table with other columns on the same rows."""
        return replace(self, frame=frame)

    def without(self, reasons: Mapping[str, str]) -> ImageTable:
        """Return the table without the samples that `reasons` names, remembering why."""
        rows = np.flatnonzero(~self.frame["path"].isin(list(reasons)).to_numpy())
        return replace(self.take(rows), skipped={**self.skipped, **reasons})

    @classmethod
    def from_torch(cls, dataset: Dataset[Any], classes: tuple[str, ...]) -> ImageTable:
        """Return a table over a map-style dataset of (image, label).

        An image is a PIL image, uint8 pixels (H, W, 3), or a uint8 tensor (3, H, W). Every item is
        read once here, for its label.
        """
        labels = [int(dataset[index][1]) for index in range(len(dataset))]  # type: ignore[arg-type]
        paths = [str(index) for index in range(len(labels))]
        frame = pd.DataFrame({"path": paths, "label": labels, "group": ""})
        return cls(frame, classes, lambda index: _pixels(dataset[index][0]))

    def to_torch(self) -> Dataset[tuple[Tensor, int]]:
        """Return a map-style dataset of uint8 (3, H, W) and label."""
        return _TorchView(self)


def file_reader(root: Path, paths: list[str]) -> Callable[[int], bytes]:
    """Return a reader of files under a folder."""

    def read(index: int) -> bytes:
        return (root / paths[index]).read_bytes()

    return read


def _pixels(image: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2 or array.shape[2] == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3])


class _TorchView:
    """Answer as a map-style dataset does; torch asks for no base class."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        from sightx.data.images import decode, to_tensor

        image = self._table.read(index)
        pixels = decode(image) if isinstance(image, bytes) else image
        return to_tensor(pixels), int(self._table.labels[index])

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return (self[index] for index in range(len(self)))
