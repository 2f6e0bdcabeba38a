"""Check what datasets, splits, samplers and preprocessing return where it enters the core.

See `results` for the other kinds. Each function raises PluginError, code wrong-result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.records import OWN_COLUMNS, SPLITS
from sightx.records.faults import Faults
from sightx.registry.components import call_declared, declares
from sightx.registry.kinds import Dataset, Preprocess, Sampler, Split
from sightx.registry.results import index_fault, shape_text, short_repr, type_name, wrong_result

if TYPE_CHECKING:
    import pandas as pd

    from sightx.records.pixels import Positions
    from sightx.records.table import ImageTable


def image_table(dataset: Dataset) -> ImageTable:
    """Return the table of a dataset: unique paths, labels that are classes, groups of text.

    Raises IncompleteTableError with the rows that are right if the dataset does.
    """
    faults = Faults()
    table = faults.collect(lambda: call_declared(dataset.table))
    return faults.refuse(_checked_table(dataset, table))


def _checked_table(dataset: Dataset, table: object) -> ImageTable:
    from pandas.api.types import infer_dtype

    from sightx.records.table import ImageTable

    if not isinstance(table, ImageTable):
        raise wrong_result(dataset.table, f"returned a {type_name(table)}", "return an ImageTable")
    frame = table.frame
    if missing := [key for key in ("path", "label", "group") if key not in frame]:
        hint = "the columns are path, label and group"
        raise wrong_result(dataset.table, f"has no column {missing[0]!r}", hint)
    if not len(frame):
        return table
    for key in ("path", "group"):
        if infer_dtype(frame[key], skipna=False) != "string":
            raise wrong_result(dataset.table, f"has a {key} that is not text", "write strings")
    if not frame["path"].is_unique:
        path = frame["path"][frame["path"].duplicated()].iat[0]
        raise wrong_result(dataset.table, f"has the path {path!r} twice", "paths are unique")
    classes = table.classes
    is_text = isinstance(classes, tuple) and all(isinstance(name, str) for name in classes)
    if not is_text or len(set(classes)) < len(classes):
        message = f"has the classes {short_repr(classes)}"
        raise wrong_result(dataset.table, message, "use a tuple of different names")
    traits = dataset.traits()
    if traits.classes not in (None, classes) or (traits.ordered and not table.ordered):
        message = "differs from traits() in its classes, or in their order"
        raise wrong_result(dataset.table, message, "let both return the same classes")
    labels, count = frame["label"].to_numpy(), len(table.classes)
    if fault := index_fault(labels, count):
        raise wrong_result(dataset.table, f"has labels {fault}", f"int64, 0 to {count - 1}")
    return _with_columns(dataset, table)


def _with_columns(dataset: Dataset, table: ImageTable) -> ImageTable:
    """Return the table with the extra columns that the traits name, as text."""
    traits = dataset.traits()
    names = traits.columns
    if taken := [name for name in names if name in OWN_COLUMNS]:
        message = f"names the extra column {taken[0]!r}, which every table has"
        raise wrong_result(dataset.traits, message, "choose another name")
    promised = (*names, "split") if traits.has_split else names
    if missing := [name for name in promised if name not in table.frame]:
        message = f"has no column {missing[0]!r}, which traits() promises"
        raise wrong_result(dataset.table, message, "write it into the frame")
    if not names:
        return table
    texts = {name: table.frame[name].astype(str).astype(object) for name in names}
    return replace(table, frame=table.frame.assign(**texts), columns=tuple(names))


def assigned_splits(split: Split, table: ImageTable) -> np.ndarray[Any, Any]:
    """Return the split of each row of a table, as an array of text."""
    splits: pd.Series[str] = call_declared(split.assign, table)
    if getattr(splits, "shape", None) != (len(table),):
        message = f"returned {shape_text(splits)} for {len(table)} rows"
        raise wrong_result(split.assign, message, "return a Series with one text per row")
    index = getattr(splits, "index", None)
    if index is not None and not table.frame.index.equals(index):
        hint = "return a Series with the index of table.frame, in its order"
        raise wrong_result(split.assign, "returned a Series with another index", hint)
    names: np.ndarray[Any, Any] = np.asarray(splits, dtype=object)
    known = (*SPLITS, "")
    if unknown := [name for name in dict.fromkeys(names) if name not in known]:
        hint = f"return {', '.join(SPLITS)} or an empty text"
        raise wrong_result(split.assign, f"returned the split {unknown[0]!r}", hint)
    return names


def sampler_order(
    sampler: Sampler, table: ImageTable, rows: Positions, *, epoch: int, epochs: int, seed: int
) -> Positions:
    """Return the order of an epoch, as int64 positions in `rows` of a table."""
    labels = table.labels[rows]
    offered: dict[str, Any] = {"epoch": epoch, "epochs": epochs, "seed": seed}
    if declares(sampler.order, "groups"):
        offered["groups"] = table.groups[rows]
    if declares(sampler.order, "columns"):
        offered["columns"] = table.extra_columns(rows)
    order = np.asarray(call_declared(sampler.order, labels, **offered))
    hint = f"return int64 positions (M,), 0 to {len(labels) - 1}; they may repeat"
    if order.ndim != 1:
        raise wrong_result(sampler.order, f"returned an array {order.shape}", hint)
    if len(order) and (fault := index_fault(order, len(labels))):
        raise wrong_result(sampler.order, f"returned positions {fault}", hint)
    return order


def required_input_size(
    preprocess: Preprocess, size: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Return the smallest (height, width) of an input; None if it must not be reduced."""
    result = call_declared(preprocess.required_input_size, size=size)
    if result is None:
        return None
    is_size = isinstance(result, tuple) and len(result) == 2
    if not is_size or not all(isinstance(edge, int) and edge > 0 for edge in result):
        message = f"returned {short_repr(result)}"
        hint = "return (height, width) in pixels, or None"
        raise wrong_result(preprocess.required_input_size, message, hint)
    return result[0], result[1]
