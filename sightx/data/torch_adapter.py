"""Between image tables and torch's map-style datasets."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from sightx.data.decode.decoder import from_pil
from sightx.data.preprocess import preprocess_image
from sightx.errors import DataError, Problem
from sightx.records.table import ImageTable


def table_from_torch(dataset: Dataset[Any], classes: tuple[str, ...]) -> ImageTable:
    """Return a table over a map-style dataset of (image, label).

    An image is a PIL image, a uint8 array (H, W, 3) or (H, W), or a uint8 tensor (3, H, W) or
    (1, H, W), the same at every reading. Every item is read once here, for its label. Raises
    DataError for a label that is not a position in `classes`.
    """
    labels = [int(dataset[index][1]) for index in range(len(dataset))]  # type: ignore[arg-type]
    for index, label in enumerate(labels):
        if not 0 <= label < len(classes):
            message = f"label {label} of item {index} is outside 0..{len(classes) - 1}"
            raise DataError(Problem("label-range", message, "declare more classes"))
    paths = [str(index) for index in range(len(labels))]
    frame = pd.DataFrame({"path": paths, "label": labels, "group": ""})
    return ImageTable(frame, classes, _ItemReader(dataset))


def as_torch_dataset(table: ImageTable) -> Dataset[tuple[Tensor, int]]:
    """Return a map-style dataset of uint8 images (3, H, W) and labels, decoded but not resized."""
    return cast("Dataset[tuple[Tensor, int]]", _TableDataset(table))


class _ItemReader:
    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset, self._lock = dataset, threading.Lock()

    def __reduce__(self) -> tuple[type[_ItemReader], tuple[Any, ...]]:
        return _ItemReader, (self._dataset,)

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        # Torch does not ask datasets to be thread-safe: one may share a single open file, give
        # images that are read from it only when they are used, or fill one buffer.
        with self._lock:
            return _to_array(self._dataset[index][0])


def _to_array(image: Any) -> np.ndarray[Any, Any]:
    """Return an image as (H, W, 3); its dtype is checked when it is decoded."""
    if isinstance(image, Image.Image):
        return from_pil(image)
    array = image.movedim(0, -1).numpy() if torch.is_tensor(image) else np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    is_grey = array.ndim == 3 and array.shape[2] == 1
    return np.repeat(array, 3 if is_grey else 1, axis=-1)


class _TableDataset:
    """A map-style dataset; torch asks for no base class."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        self._labels = table.labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = preprocess_image(self._table.read(index), (), channels=self._table.channels)
        return image.contiguous(), self._labels[index]
