"""Checks of datasets."""

from __future__ import annotations

from typing import Any

from sightx.plugin import SPLITS, Dataset, ImageTable
from sightx.testing.assertions import ContractCheck, require, require_picklable
from sightx.testing.forbid_io import forbid_io


def traits_read_no_data(dataset: Dataset) -> None:
    """Require traits that come from the settings alone."""
    with forbid_io(type(dataset)) as attempts:
        try:
            dataset.traits()
        except Exception:
            if not attempts:
                raise
    require(not attempts, f"traits() {', '.join(attempts)}; it must not read data")


def table_is_valid(dataset: Dataset) -> None:
    """Require one row per image: unique paths, labels in range, groups that are strings."""
    table = dataset.table()
    frame, classes = table.frame, table.classes
    missing = {"path", "label", "group"} - set(frame.columns)
    require(not missing, f"the table has no column {', '.join(sorted(missing))}")
    require(len(frame), "the table has no rows; let the example write some images")
    require(frame["path"].is_unique, "a path is not unique; it must identify the sample")
    for column in ("path", "group"):
        invalid = [cell for cell in frame[column] if not isinstance(cell, str)]
        require(not invalid, f"{column} contains {invalid[:1]}; use strings, '' for no group")
    require(
        isinstance(classes, tuple) and len(set(classes)) == len(classes) >= 2,
        f"classes are {classes!r}; use a tuple of at least two different names",
    )
    dtype = frame["label"].dtype
    require(dtype.kind == "i", f"labels are {dtype}; use int64 positions in classes")
    low, high, last = frame["label"].min(), frame["label"].max(), len(classes) - 1
    require(0 <= low <= high <= last, f"labels are {low} to {high}, but classes are 0 to {last}")


def headers_are_accepted(dataset: Dataset) -> None:
    """Require that `check_headers` accepts the files that `table` reads."""
    problems = [*dataset.check_headers()]
    require(not problems, f"check_headers() refuses what table() reads: {problems[:1]}")


def traits_match_table(dataset: Dataset) -> None:
    """Require that the traits agree with the table."""
    traits, table = dataset.traits(), dataset.table()
    has_split = "split" in table.frame.columns
    actual = {
        "classes": table.classes,
        "ordered": table.ordered,
        "has_groups": bool((table.frame["group"] != "").any()),
        "has_split": has_split,
    }
    for name, value in actual.items():
        declared = getattr(traits, name)
        require(
            declared == value or (name == "classes" and declared is None),
            f"traits() has {name} = {declared!r}, but in the table it is {value!r}",
        )
    invalid = set(table.frame["split"]) - {*SPLITS, ""} if has_split else set()
    require(not invalid, f"the column split contains {sorted(map(str, invalid))}")


def table_is_deterministic(dataset: Dataset) -> None:
    """Require the same rows in the same order each time."""
    first, second = dataset.table(), dataset.table()
    require(
        first.frame.equals(second.frame) and first.classes == second.classes,
        "table() differs from call to call; sort the files of a folder, use a fixed seed",
    )


def images_are_readable(dataset: Dataset) -> None:
    """Require readable first and last images, the same each time, and a picklable table."""
    table = dataset.table()
    for index in (0, len(table) - 1):
        _decode(table, index)
        image = table.read(index)
        require(_equal(image, table.read(index)), f"read({index}) differs from call to call")
    require_picklable(table, "let `read` be an instance of a class at the top of a module")


def _decode(table: ImageTable, index: int) -> None:
    """Raise DataError if the decoder refuses an image."""
    from sightx.plugin import as_torch_dataset

    as_torch_dataset(table)[index]


def _equal(one: Any, two: Any) -> bool:
    import numpy as np

    return one == two if isinstance(one, bytes) else np.array_equal(one, two)


CHECKS: tuple[ContractCheck, ...] = (
    traits_read_no_data, table_is_valid, headers_are_accepted, traits_match_table,
    table_is_deterministic, images_are_readable,
)  # fmt: skip
