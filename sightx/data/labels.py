"""Read files of labels: every cell that is wrong is named with file and line."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from sightx.data.table import SPLITS, ImageTable, file_reader
from sightx.errors import DataError, Problem

_EMPTY = {"", "nan", "na", "n/a", "null", "none"}
_PATH_LIMIT = 1024


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return a CSV file's cells as strings, with the column `line` counting from 1.

    Raises DataError for what cannot be read, an unclosed quote, a ragged row or a missing column.
    """
    text = _text(path)
    lines = list(_records(text, path))
    if not lines:
        _fail(path, 0, "empty-file", "the file is empty", "it needs a header and rows")
    (_, header), rows = lines[0], lines[1:]
    _check_header(path, header, columns)
    for line, cells in rows:
        if len(cells) != len(header):
            _fail(path, line, "ragged-row", f"{len(cells)} cells, the header has {len(header)}")
    frame = pd.DataFrame([cells for _, cells in rows], columns=header, dtype=str)
    return frame.assign(line=[line for line, _ in rows])


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        _fail(path, 0, "unreadable", f"cannot be read: {error.strerror}", "check the path")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = f"not UTF-8 (byte 0x{raw[error.start]:02x} at offset {error.start})"
        _fail(path, line, "encoding", found, "save it as UTF-8")


def _records(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line it begins on."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        message = "a quote is never closed" if "unexpected end" in str(error) else str(error)
        _fail(path, line, "csv-syntax", message, "close the quote that this record opens")


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    if len(set(header)) != len(header):
        double = next(name for name in header if header.count(name) > 1)
        _fail(path, 1, "duplicate-column", f"column {double!r} stands twice")
    for column in columns:
        if column not in header:
            near = difflib.get_close_matches(column, header, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(header)}"
            if len(header) == 1 and ";" in header[0]:
                hint = "the cells are separated by ';', a comma is needed"
            _fail(path, 1, "missing-column", f"no column {column!r}", hint)


def grades(frame: pd.DataFrame, column: str, count: int, path: Path) -> np.ndarray[Any, Any]:
    """Return a column of whole numbers in 0..count-1; `2.0` is one, `2.5` is not."""
    return np.array(
        [
            _grade(cell, count, path, line, column)
            for cell, line in zip(frame[column], frame["line"], strict=True)
        ],
        dtype=np.int64,
    )


def _grade(cell: str, count: int, path: Path, line: int, column: str) -> int:
    if cell.strip().lower() in _EMPTY:
        _fail(path, line, "label-missing", f"{column} is {cell!r}", "fill it or exclude the row")
    try:
        value = float(cell)
    except ValueError:
        _fail(path, line, "label-type", f"{column} {cell!r} is no number")
    if value != value or not value.is_integer():
        _fail(path, line, "label-type", f"{column} {cell} is no whole number")
    if not 0 <= value < count:
        message = f"{column} {cell} is outside 0..{count - 1}"
        _fail(path, line, "label-range", message, "fix the row or declare more classes")
    return int(value)


def named(
    frame: pd.DataFrame, column: str, classes: Sequence[str] | None, path: Path
) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """Return a column of class names as positions, and the classes: those given, or all, sorted."""
    cells = [str(cell).strip() for cell in frame[column]]
    known = tuple(classes) if classes else tuple(sorted(set(cells) - {""}))
    positions = {name: position for position, name in enumerate(known)}
    for cell, line in zip(cells, frame["line"], strict=True):
        if cell.lower() in _EMPTY and cell not in positions:
            _fail(path, line, "label-missing", f"{column} is {cell!r}", "fill it or exclude the row")
        if cell not in positions:
            near = ", ".join(difflib.get_close_matches(cell, known, 1) or known[:12])
            _fail(path, line, "label-unknown", f"no class is called {cell!r}", f"known: {near}")
    return np.array([positions[cell] for cell in cells], dtype=np.int64), known


def check_paths(frame: pd.DataFrame, column: str, path: Path) -> None:
    """Refuse names that are empty, not a file name, or lead out of the folder of images."""
    for cell, line in zip(frame[column], frame["line"], strict=True):
        if not cell.strip():
            _fail(path, line, "path-empty", f"{column} is empty", "fill it or exclude the row")
        if "\0" in cell or len(cell) > _PATH_LIMIT:
            _fail(path, line, "path-invalid", f"{cell[:40]!r} is no file name")
        if PurePosixPath(cell).is_absolute() or ".." in PurePosixPath(cell).parts:
            _fail(path, line, "path-outside", f"{cell!r} leaves the folder of images")


def check_unique(frame: pd.DataFrame, column: str, label: str, path: Path) -> None:
    """Refuse a name that stands twice, naming both rows."""
    doubles = frame[frame[column].duplicated(keep=False)]
    if len(doubles):
        name = doubles[column].iat[0]
        first, second = list(doubles[doubles[column] == name]["line"])[:2]
        same = doubles[doubles[column] == name][label].nunique() == 1
        what = "stands twice" if same else "has two labels"
        _fail(path, int(second), "duplicate-row", f"{name!r} {what}, first on line {first}")


def _fail(path: Path, line: int, code: str, message: str, hint: str = "") -> NoReturn:
    raise DataError(Problem(code, message, hint, file=str(path), line=int(line)))


def labelled_folder(path: Path, key: str, way: str = "set it with --set, or in sightx.local.toml") -> Path:
    """Return a folder that must be there; `way` says how a user gets it. Raises DataError."""
    if str(path).startswith("@"):
        raise DataError(Problem("missing-data", f"the place {path} is not set", way, key))
    if not path.is_dir():
        raise DataError(Problem("missing-data", f"{path} is no folder", way, key))
    return path


def table_from_csv(
    path: Path,
    *,
    root: Path,
    image: str,
    label: str,
    group: str | Callable[[str], str] = "",
    split: str = "",
    suffix: str = "",
    classes: Sequence[str] | None = None,
    ordered: bool = False,
    numbers: bool = False,
) -> ImageTable:
    """Return the table that a CSV file of images and labels describes.

    `group` names a column or computes the group from the image's cell; `split` names a column of
    sides; `suffix` ends every file name; with `numbers` the labels are positions in `classes`.
    Raises DataError, naming the line.
    """
    computed = callable(group)
    wanted = [image, label, "" if computed else str(group), split]
    frame = read_csv(path, [column for column in wanted if column])
    check_paths(frame, image, path)
    check_unique(frame, image, label, path)
    if numbers and classes is not None:
        labels, names = grades(frame, label, len(classes), path), tuple(classes)
    else:
        labels, names = named(frame, label, classes, path)
    paths = [str(cell) + suffix for cell in frame[image]]
    columns: dict[str, Any] = {"path": paths, "label": labels, "line": frame["line"]}
    if callable(group):
        columns["group"] = [group(str(cell)) for cell in frame[image]]
    else:
        columns["group"] = frame[group] if group else ""
    if split:
        columns["split"] = _sides(frame, split, path)
    return ImageTable(
        pd.DataFrame(columns), names, file_reader(root, paths), ordered, str(path), root
    )


def _sides(frame: pd.DataFrame, column: str, path: Path) -> list[str]:
    """Return a column of sides, with the common short names read as what they mean."""
    meant = {side: side for side in (*SPLITS, "")} | {"training": "train", "val": "validation"}
    meant |= {"valid": "validation", "testing": "test"}
    for cell, line in zip(frame[column], frame["line"], strict=True):
        if cell.strip().lower() not in meant:
            hint = "write train, validation or test, or nothing to leave the row out"
            _fail(path, line, "split-unknown", f"{column} is {cell!r}", hint)
    return [meant[cell.strip().lower()] for cell in frame[column]]
