"""Read CSV files of labels; every wrong cell is named with its file and line."""

from __future__ import annotations

import csv
import io
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import pandas as pd

from sightx.data.classes import class_name, class_positions, find_classes, require_order
from sightx.errors import DataError, Problem, did_you_mean
from sightx.io.files import file_reader
from sightx.records import split_called
from sightx.records.table import ImageTable

_Value = TypeVar("_Value")

_EMPTY = {"", "nan", "na", "n/a", "null"}
_PATH_LIMIT, _NAME_LIMIT = 1024, 255  # bytes, as file systems count


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return a CSV file's cells as strings; the index is the line on which each record begins.

    Raises DataError for what cannot be read, an unclosed quote, a ragged row or a missing column.
    """
    records = _records(_text(path), path)
    start, header = next(records, (0, []))
    if not header:
        _fail(path, 0, "empty-file", "the file is empty", "it needs a header and rows")
    _check_header(path, start, header, columns)
    lines, rows = [], []
    for line, cells in records:
        if len(cells) != len(header):
            message = f"a row of {len(cells)} in a table of {len(header)} columns"
            _fail(path, line, "ragged-row", message, "put a cell that holds a comma in quotes")
        lines.append(line)
        rows.append(cells)
    return pd.DataFrame(rows, index=pd.Index(lines, dtype=int), columns=header, dtype=str)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        others = sorted(file.name for file in path.parent.glob("*.csv"))
        hint = f"its folder contains {_join(others)}" if others else "check the path"
        _fail(path, 0, "unreadable", f"cannot be read: {error.strerror}", hint)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 (byte 0x{raw[error.start]:02x} at offset {error.start})"
        _fail(path, line, "encoding", message, "save it as UTF-8")


def _records(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        # A quote that is not closed swallows the rest of the file, or as much as a cell may hold.
        unclosed = "unexpected end" in str(error) or "field limit" in str(error)
        message = "a quote is never closed" if unclosed else str(error)
        _fail(path, line, "csv-syntax", message, "close the quote that this record opens")


def _check_header(path: Path, line: int, header: list[str], columns: Sequence[str]) -> None:
    repeated = next((name for name in header if name and header.count(name) > 1), None)
    if repeated is not None:
        _fail(path, line, "duplicate-column", f"there are two columns {repeated!r}", "rename one")
    missing = [column for column in columns if column not in header]
    if missing and len(header) == 1 and (separator := next(filter(header[0].count, ";\t"), "")):
        hint = f"the cells are separated by {separator!r}, a comma is needed"
        _fail(path, line, "missing-column", f"there is no column {missing[0]!r}", hint)
    problems = []
    for column in missing:
        hint = did_you_mean(column, header) or f"columns: {_join(header)}"
        problem = Problem("missing-column", f"there is no column {column!r}", hint)
        problems.append(problem.at(str(path), line))
    if problems:
        raise DataError(*problems)


def parse_grades(frame: pd.DataFrame, column: str, count: int, path: Path) -> np.ndarray[Any, Any]:
    """Return a column of whole numbers in 0..count-1; `2.0` is one, `2.5` is not."""

    def grade(cell: str, line: int) -> int:
        _refuse_empty(cell, column, path, line)
        try:
            value = float(cell.replace("_", "?"))  # python reads 1_0 as 10
        except ValueError:
            value = float("nan")
        if not value.is_integer():
            _fail(path, line, "label-type", f"{column} {cell!r} is not a whole number")
        if not 0 <= value < count:
            message = f"{column} {cell} is outside 0..{count - 1}"
            _fail(path, line, "label-range", message, "fix the row or declare more classes")
        return int(value)

    return np.array(_parse_cells(frame, column, grade), dtype=np.int64)


def parse_class_names(
    frame: pd.DataFrame, column: str, classes: Sequence[str] | None, path: Path
) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """Return a column of class names as positions, and the classes: those given, or all."""
    counts = Counter(cell for cell in frame[column] if not _is_empty(cell))
    known = tuple(classes or find_classes(counts, str(path)))
    positions = class_positions(frame[column].unique(), known)

    def position(cell: str, line: int) -> int:
        if classes is None or cell not in positions:
            _refuse_empty(cell, column, path, line, ", or declare it in dataset.classes")
        if cell not in positions:
            name, rows = class_name(cell), counts[cell]
            hint = did_you_mean(name, known) or f"known: {_join(known)}"
            message = f"there is no class {name!r} ({rows} row{'s' if rows > 1 else ''})"
            _fail(path, line, "label-unknown", message, hint)
        return positions[cell]

    return np.array(_parse_cells(frame, column, position), dtype=np.int64), known


def _check_classes(names: Sequence[str], column: str, path: Path, *, ordered: bool) -> None:
    """Refuse one class, and `ordered` classes whose order is only that of spelling."""
    if len(names) < 2:
        hint = "a classifier needs two or more"
        _fail(path, 0, "no-classes", f"{column} has one class: {_join(names)}", hint)
    if ordered:
        require_order(names)


def _is_empty(cell: str) -> bool:
    return cell.strip().lower() in _EMPTY


def _refuse_empty(cell: str, column: str, path: Path, line: int, option: str = "") -> None:
    if _is_empty(cell):
        hint = f"fill it or delete the row{option if cell.strip() else ''}"
        _fail(path, line, "label-missing", f"{column} is {cell!r}", hint)


def _splits(frame: pd.DataFrame, column: str, path: Path) -> list[str]:
    """Return a column of splits, which may have their usual short names."""

    def split(cell: str, line: int) -> str:
        split_name = split_called(cell)
        if cell.strip() and not split_name:
            hint = "write train, validation or test, or nothing to leave the row out"
            _fail(path, line, "split-unknown", f"{column} is {cell!r}", hint)
        return split_name

    return _parse_cells(frame, column, split)


def _parse_cells(
    frame: pd.DataFrame, column: str, parse: Callable[[str, int], _Value]
) -> list[_Value]:
    """Return the value of each cell of a column; each text is parsed once, at its first line."""
    first_lines: dict[str, Any] = {}
    for line, cell in frame[column].items():
        first_lines.setdefault(cell, line)
    values = {cell: parse(cell, line) for cell, line in first_lines.items()}
    return [values[cell] for cell in frame[column]]


def _paths(frame: pd.DataFrame, column: str, suffix: str, path: Path) -> list[str]:
    """Return the file names of a column; they must be valid and stay in their folder."""
    names = []
    for line, cell in frame[column].items():
        if not cell.strip():
            _fail(path, line, "path-empty", f"{column} is empty", "fill it or delete the row")
        name = cell + suffix
        parts = name.split("/")
        if "\0" in name or len(name) > _PATH_LIMIT or max(map(_bytes, parts)) > _NAME_LIMIT:
            _fail(path, line, "path-invalid", f"{cell[:40]!r} is not a file name", "fix the cell")
        if not parts[0] or ".." in parts:
            hint = "write paths relative to that folder, without .."
            _fail(path, line, "path-outside", f"{cell!r} leaves the folder of images", hint)
        names.append(posixpath.normpath(name))
    return names


def _bytes(name: str) -> int:
    return len(name.encode())


def _check_unique(frame: pd.DataFrame, classes: Sequence[str], path: Path) -> None:
    """Refuse a path that is listed twice, naming both rows."""
    repeated = frame[frame["path"].duplicated(keep=False)]
    if not len(repeated):
        return
    name, label, first = repeated[["path", "label", "line"]].iloc[0]
    repeats = repeated[repeated["path"] == name].iloc[1:]
    others = repeats[repeats["label"] != label]
    count = repeated["path"].nunique()
    hint = f"keep one row of each; {count} images have several" if count > 1 else "keep one"
    if len(others):
        other = classes[others["label"].iat[0]]
        message = f"{name!r} is {other!r} here, but {classes[label]!r} on line {first}"
        _fail(path, others["line"].iat[0], "conflicting-labels", message, hint)
    message = f"{name!r} is listed again, first on line {first}"
    _fail(path, repeats["line"].iat[0], "duplicate-row", message, hint)


def _join(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _fail(path: Path, line: Any, code: str, message: str, hint: str = "") -> NoReturn:
    raise DataError(Problem(code, message, hint, file=str(path), line=int(line)))


def read_exclusions(path: Path, paths: Sequence[str]) -> dict[str, str]:
    """Return the reason for each path that a CSV file with the columns path and reason excludes.

    Raises DataError for a path that is not in `paths`, because it would exclude nothing.
    """
    _refuse_unset(path, "dataset.exclude", "")
    listed, known = read_csv(path, ["path", "reason"]), set(paths)
    for line, name in listed["path"].items():
        if name not in known:
            hint = did_you_mean(name, paths) or "write paths as the dataset does, or delete the row"
            _fail(path, line, "exclude-unknown", f"there is no sample {name!r}", hint)
    return dict(zip(listed["path"], listed["reason"], strict=True))


def require_folder(path: Path, key: str, how_to_get: str = "") -> Path:
    """Return a folder that must exist. Raises DataError.

    `key` is the setting that names it, and `how_to_get` a hint for a user who does not have it.
    """
    _refuse_unset(path, key, how_to_get)
    if not path.is_dir():
        hint = how_to_get or f"give the folder with --set {key}=FOLDER"
        raise DataError(Problem("missing-data", f"{path} is not a folder", hint, key))
    return path


def _refuse_unset(path: Path, key: str, how_to_get: str) -> None:
    if str(path).startswith("@"):
        name = path.parts[0][1:]
        hint = f'write {name} = "FOLDER" below [places] in sightx.local.toml, or --set {key}=FOLDER'
        raise DataError(
            Problem("missing-data", f"the place @{name} is not set", how_to_get or hint, key)
        )


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
    splits; `suffix` is appended to every file name; with `numbers` the labels are positions in
    `classes`. Raises DataError, naming the line; SpecError if `classes` are needed for the order.
    """
    column = "" if callable(group) else group
    cells = read_csv(path, [name for name in (image, label, column, split) if name])
    paths = _paths(cells, image, suffix, path)
    if numbers and classes is not None:
        labels, names = parse_grades(cells, label, len(classes), path), tuple(classes)
    else:
        labels, names = parse_class_names(cells, label, classes, path)
    if len(cells):
        _check_classes(names, label, path, ordered=ordered and classes is None)
    columns: dict[str, Any] = {"path": paths, "label": labels, "line": cells.index, "group": ""}
    if callable(group):
        columns["group"] = [group(cell) for cell in cells[image]]
    elif group:
        columns["group"] = [cell.strip() for cell in cells[group]]
    if split:
        columns["split"] = _splits(cells, split, path)
    frame = pd.DataFrame(columns)
    _check_unique(frame, names, path)
    return ImageTable(frame, names, file_reader(root, paths), ordered, str(path), root)
