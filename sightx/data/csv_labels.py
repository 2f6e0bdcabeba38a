"""Read CSV files of labels; every wrong cell is named with its file and line."""

from __future__ import annotations

import csv
import io
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import pandas as pd

from sightx.data.classes import class_name, class_positions, find_classes
from sightx.data.decode.formats import is_image_name
from sightx.errors import DataError, Problem, did_you_mean
from sightx.records import split_called

_Value = TypeVar("_Value")

_EMPTY = {"", "nan", "na", "n/a", "null"}
_PATH_LIMIT, _NAME_LIMIT = 1024, 255  # bytes, as file systems count
_MAX_COLUMNS = 10_000


def read_csv(path: Path, columns: Sequence[str], names: Sequence[str] = ()) -> pd.DataFrame:
    """Return a CSV file's cells as strings; the index is the line on which each record begins.

    `names` are those of all columns, for a file without a header. Columns without a name are left
    out; `attrs["nameless"]` has their positions. Blanks around names do not count, nor do empty
    cells behind the last column.

    Raises DataError for what cannot be read, an unclosed quote, a ragged row or a missing column.
    """
    records = _records(_text(path), path)
    start, header = (1, list(names)) if names else next(records, (0, []))
    if not header:
        _fail(path, 0, "empty-file", "the file is empty", "it needs a header and rows")
    header = [name.strip() for name in header]
    _check_header(path, start, header, columns)
    lines, rows = [], []
    for line, cells in records:
        if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
            message = f"a row of {len(cells)} in a table of {len(header)} columns"
            _fail(path, line, "ragged-row", message, "put a cell that holds a comma in quotes")
        lines.append(line)
        rows.append(cells[: len(header)])
    index = pd.Index(lines, dtype=int)
    frame = pd.DataFrame(rows, index=index, columns=header, dtype=str)
    frame = frame.loc[:, list(filter(None, header))]
    frame.attrs["nameless"] = [at for at, name in enumerate(header, start=1) if not name]
    return frame


def read_first_line(path: Path) -> list[str]:
    """Return the cells of a CSV file's first record; none if it is empty. Raises DataError."""
    return next(_records(_text(path), path), (0, []))[1]


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
    if len(header) > _MAX_COLUMNS:
        message = f"the header has {len(header)} columns, at most {_MAX_COLUMNS} are read"
        _fail(path, line, "too-large", message, "is it a table of labels?")
    counts = Counter(header)
    repeated = next((name for name in header if name and counts[name] > 1), None)
    if repeated is not None:
        _fail(path, line, "duplicate-column", f"there are two columns {repeated!r}", "rename one")
    missing = [column for column in columns if column not in header]
    if missing and len(header) == 1 and (separator := next(filter(header[0].count, ";\t"), "")):
        hint = f"the cells are separated by {separator!r}, a comma is needed"
        _fail(path, line, "missing-column", f"there is no column {missing[0]!r}", hint)
    if missing and looks_like_row(header):
        message = f"the first line looks like a row: {_join(list(map(repr, header)))}"
        hint = f"put a line with the names of the {len(header)} columns on top"
        _fail(path, line, "no-header", message, hint)
    problems = []
    for column in missing:
        hint = did_you_mean(column, header) or f"columns: {_join(header)}"
        problem = Problem("missing-column", f"there is no column {column!r}", hint)
        problems.append(problem.at(str(path), line))
    if problems:
        raise DataError(*problems)


def looks_like_row(cells: Sequence[str]) -> bool:
    """Return whether a first line has a number or the name of an image, as no header has."""
    return any(re.fullmatch(r"[+-]?[0-9.]+", cell) or is_image_name(cell) for cell in cells)


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
    counts = Counter(cell for cell in frame[column] if not is_empty(cell))
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


def is_empty(cell: str) -> bool:
    """Return whether a cell has no value, or a usual mark for a missing one."""
    return cell.strip().lower() in _EMPTY


def _refuse_empty(cell: str, column: str, path: Path, line: int, option: str = "") -> None:
    if is_empty(cell):
        hint = f"fill it or delete the row{option if cell.strip() else ''}"
        _fail(path, line, "label-missing", f"{column} is {cell!r}", hint)


def parse_splits(frame: pd.DataFrame, column: str, path: Path) -> list[str]:
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


def parse_paths(frame: pd.DataFrame, column: str, suffix: str, path: Path, root: Path) -> list[str]:
    """Return the file names of a column, relative to the root, in which they must be.

    Blanks around a name do not count, backslashes separate folders, and a path may be absolute.
    """
    names = []
    for line, cell in frame[column].items():
        if not cell.strip():
            _fail(path, line, "path-empty", f"{column} is empty", "fill it or delete the row")
        name = file_name(cell, suffix)
        parts = name.split("/")
        if "\0" in name or len(name) > _PATH_LIMIT or max(map(_bytes, parts)) > _NAME_LIMIT:
            _fail(path, line, "path-invalid", f"{cell[:40]!r} is not a file name", "fix the cell")
        if not parts[0]:
            name = _below(root, name)
        if not name or ".." in parts:
            hint = f"write paths below {root}, without .., or give another folder of images"
            _fail(path, line, "path-outside", f"{cell!r} leaves the folder of images", hint)
        names.append(posixpath.normpath(name))
    return names


def file_name(cell: str, suffix: str = "") -> str:
    """Return the file that a cell names."""
    return cell.strip().replace("\\", "/") + suffix


def _below(root: Path, name: str) -> str:
    """Return an absolute path relative to a folder, "" if it is not below it."""
    name = posixpath.normpath(name)
    for folder in (os.path.abspath(root), os.path.realpath(root)):  # noqa: PTH100
        if name.startswith(folder.rstrip("/") + "/"):
            return posixpath.relpath(name, folder)
    return ""


def _bytes(name: str) -> int:
    return len(name.encode())


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
