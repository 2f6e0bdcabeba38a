"""Between image tables and torch's map-style datasets."""

from __future__ import annotations

import operator
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from sightx.data.decode.decoder import from_pil
from sightx.data.preprocess import preprocess_image
from sightx.errors import DataError, Problem, did_you_mean
from sightx.records.table import ImageTable

Key = int | str
"""A position in an item that is a tuple, or a key of an item that is a dictionary."""


def table_from_torch(
    dataset: Dataset[Any] | Sequence[Any],
    classes: tuple[str, ...],
    *,
    image: Key = 0,
    label: Key = 1,
    labels: Sequence[Any] | None = None,
    groups: Sequence[Any] | None = None,
) -> ImageTable:
    """Return a table over a map-style dataset, such as torchvision's and Hugging Face's.

    Args:
        dataset: Its items are tuples or dictionaries. An image is a PIL image, a uint8 array
            (H, W, 3) or (H, W), or a uint8 tensor (3, H, W) or (1, H, W), the same at every
            reading.
        classes: The names of the classes.
        image: Where an item has its image: a position, or a key such as "image".
        label: Likewise its label: the position of a class, or the name of one.
        labels: The labels of all items. Without them every item is read once here, which decodes
            its image.
        groups: The groups of all items, such as patients; "" for none.

    Raises DataError for an item without the image or the label, for a label that is not a class,
    and for labels or groups of another number than the items.
    """
    count = len(dataset)  # type: ignore[arg-type]
    for name, values in (("labels", labels), ("groups", groups)):
        if values is not None and len(values) != count:
            message = f"{len(values)} {name} are given for {count} items"
            raise DataError(Problem("item-count", message, f"give one of the {name} per item"))
    if labels is None:
        labels = [_part(dataset[index], label, index, "label") for index in range(count)]
    columns = {
        "path": list(map(str, range(count))),
        "label": _positions(labels, classes),
        "group": "" if groups is None else list(map(str, groups)),
    }
    return ImageTable(pd.DataFrame(columns), classes, _ItemReader(dataset, image))


def _positions(labels: Sequence[Any], classes: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return the position of each label's class, int64 (N,). Raises DataError."""
    names = {name: position for position, name in enumerate(classes)}
    positions = [_position(label, names, index) for index, label in enumerate(labels)]
    return np.array(positions, dtype=np.int64)


def _part(item: Any, key: Key, index: int, argument: str) -> Any:
    """Return the image or the label of an item. Raises DataError if there is none at the key."""
    try:
        return item[key]
    except (KeyError, IndexError, TypeError):
        message = f"item {index} is a {type(item).__name__}, which has no {key!r}"
        hint = f"give its position with {argument}=1"
        if isinstance(item, Mapping):
            keys = list(map(repr, item))
            message = f"item {index} has no key {key!r}, but {', '.join(keys[:8]) or 'none'}"
            example = argument if argument in item else next(iter(item), argument)
            hint = f"give the key with {argument}={example!r}"
        raise DataError(Problem("item-key", message, hint)) from None


def _position(label: Any, names: Mapping[str, int], index: int) -> int:
    """Return the position of a class. Raises DataError."""
    if isinstance(label, str):
        if label not in names:
            hint = did_you_mean(label, names) or f"the classes are {', '.join(list(names)[:8])}"
            _refuse(label, index, "is not a class", hint)
        return names[label]
    try:
        position = operator.index(label)  # also of numpy's and torch's integers
    except TypeError:
        _refuse(label, index, "is not a whole number", "give positions or names of classes")
    if not 0 <= position < len(names):
        _refuse(position, index, f"is outside 0..{len(names) - 1}", "declare more classes")
    return position


def _refuse(label: Any, index: int, fault: str, hint: str) -> NoReturn:
    text = repr(label) if isinstance(label, str) else str(label)
    code = "label-range" if isinstance(label, int) else "label-type"
    code = "label-unknown" if isinstance(label, str) else code
    raise DataError(Problem(code, f"label {text[:40]} of item {index} {fault}", hint))


def as_torch_dataset(table: ImageTable) -> Dataset[tuple[Tensor, int]]:
    """Return a map-style dataset of uint8 images (3, H, W) and labels, decoded but not resized."""
    return cast("Dataset[tuple[Tensor, int]]", _TableDataset(table))


class _ItemReader:
    def __init__(self, dataset: Dataset[Any] | Sequence[Any], image: Key) -> None:
        self._dataset, self._image, self._lock = dataset, image, threading.Lock()

    def __reduce__(self) -> tuple[type[_ItemReader], tuple[Any, ...]]:
        return _ItemReader, (self._dataset, self._image)

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        # Torch does not ask datasets to be thread-safe: one may share a single open file, give
        # images that are read from it only when they are used, or fill one buffer.
        with self._lock:
            return _to_array(_part(self._dataset[index], self._image, index, "image"))


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
