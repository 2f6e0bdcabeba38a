"""Understand the cells of CSV files of labels; a wrong one is named with its file and line."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from sightx.data.classes import class_name, class_positions
from sightx.data.csv_reader import fail, join_names, read_csv
from sightx.data.near_names import FileIndex, common_change, nearest_files
from sightx.errors import DataError, Problem, did_you_mean
from sightx.io.files import hint_for_missing, user_path
from sightx.io.toml import dump_value
from sightx.records import split_called
from sightx.records.faults import Faults

if TYPE_CHECKING:
    import pandas as pd

_Value = TypeVar("_Value")

_EMPTY = {"", "nan", "na", "n/a", "null"}
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PATH_LIMIT, _NAME_LIMIT = 1024, 255  # bytes, as file systems count


def parse_grades(
    frame: pd.DataFrame, column: str, count: int, path: Path, faults: Faults
) -> list[int | None]:
    """Return a column of whole numbers in 0..count-1; `2.0` is one, `2.5` is not.

    Here and below a cell that is wrong is None, and `faults` says why.
    """

    def grade(cell: str, line: int) -> int:
        _refuse_empty(cell, column, path, line)
        try:
            value = float(cell.replace("_", "?"))  # python reads 1_0 as 10
        except ValueError:
            value = float("nan")
        if not value.is_integer():
            message = f"{column} {cell!r} is not a whole number"
            fail(path, line, "label-type", message, "fix the row or delete it")
        if not 0 <= value < count:
            message = f"{column} {cell} is outside 0..{count - 1}"
            fail(path, line, "label-range", message, "fix the row or declare more classes")
        return int(value)

    return _parse_cells(frame, column, grade, faults)


def parse_class_names(
    frame: pd.DataFrame, column: str, classes: Sequence[str], path: Path, faults: Faults
) -> list[int | None]:
    """Return a column of class names as positions in the classes."""
    positions = class_positions(frame[column].unique(), classes)

    def position(cell: str, line: int) -> int:
        if cell not in positions:
            _refuse_empty(cell, column, path, line, ", or declare it in dataset.classes")
            name = class_name(cell)
            hint = did_you_mean(name, classes) or f"known: {join_names(classes)}"
            fail(path, line, "label-unknown", f"there is no class {name!r}", hint)
        return positions[cell]

    return _parse_cells(frame, column, position, faults)


def is_empty(cell: str) -> bool:
    """Return whether a cell has no value, or a usual mark for a missing one."""
    return cell.strip().lower() in _EMPTY


def _refuse_empty(cell: str, column: str, path: Path, line: int, option: str = "") -> None:
    if is_empty(cell):
        hint = f"fill it or delete the row{option if cell.strip() else ''}"
        fail(path, line, "label-missing", f"{column} is {cell!r}", hint)


def parse_one_hot(
    frame: pd.DataFrame, columns: Sequence[str], path: Path, faults: Faults
) -> pd.Series[str]:
    """Return the column that has 1, for each row in which the other columns have 0."""
    import pandas as pd

    cells = frame[list(columns)].to_numpy(object)
    values = pd.to_numeric(pd.Series(cells.ravel()).str.strip(), errors="coerce").to_numpy()
    is_hot = values.reshape(cells.shape) == 1
    is_wrong = (is_hot.sum(axis=1) != 1) | ~(is_hot | (values.reshape(cells.shape) == 0)).all(
        axis=1
    )
    if is_wrong.any():
        row = int(is_wrong.argmax())
        pairs = zip(columns, cells[row], strict=True)
        listed = join_names([f"{name} {cell}" for name, cell in pairs])
        message = f"one column has 1 and the others 0, but this row has {listed}"
        hint = "fix the row or delete it; an image has one class"
        problem = Problem("label-type", message, hint).at(str(path), int(frame.index[row]))
        faults.add(problem, int(is_wrong.sum()))
    names = np.array(columns, object)[is_hot.argmax(axis=1)]
    return pd.Series(names[~is_wrong], index=frame.index[~is_wrong], dtype=str)


def parse_splits(frame: pd.DataFrame, column: str, path: Path, faults: Faults) -> list[str | None]:
    """Return a column of splits, which may have their usual short names."""

    def split(cell: str, line: int) -> str:
        split_name = split_called(cell)
        if cell.strip() and not split_name:
            hint = "write train, validation or test, or nothing to leave the row out"
            fail(path, line, "split-unknown", f"{column} is {cell!r}", hint)
        return split_name

    return _parse_cells(frame, column, split, faults)


def _parse_cells(
    frame: pd.DataFrame, column: str, parse: Callable[[str, int], _Value], faults: Faults
) -> list[_Value | None]:
    """Return the value of each cell of a column; each text is parsed once, at its first line.

    `parse` raises DataError for one that is wrong.
    """
    lines: dict[str, list[Any]] = {}
    for line, cell in frame[column].items():
        lines.setdefault(cell, []).append(line)
    values: dict[str, _Value | None] = {}
    for cell, (first, *others) in lines.items():
        try:
            values[cell] = parse(cell, first)
        except DataError as error:
            (problem,), values[cell] = error.problems, None
            more = f" ({1 + len(others):,} rows)" if others else ""
            faults.add(replace(problem, message=problem.message + more), 1 + len(others))
    return [values[cell] for cell in frame[column]]


class FileNames(NamedTuple):
    """How cells name files: `strip_prefix` is not part of their names, `suffix` is missing there.

    A prefix of None is an empty one, for a dataset that has no setting for it. With a
    `file_index` a name may lack folders and the ending.
    """

    strip_prefix: str | None = None
    suffix: str = ""
    file_index: FileIndex | None = None

    def __call__(self, cell: str) -> str:
        """Return the file that a cell names.

        Blanks around a name do not count, backslashes separate folders, `~/` is the home folder,
        and a URL that begins with `file://` is a path.
        """
        name = cell.strip().replace("\\", "/")
        prefix = (self.strip_prefix or "").strip().replace("\\", "/")
        if prefix and name.startswith(prefix):
            name = name[len(prefix) :].lstrip("/")
        if name.startswith("file://"):
            name = unquote(urlsplit(name).path)
        name = (str(user_path(name)) if name.startswith("~/") else name) + self.suffix
        files = self.file_index.find(name) if self.file_index else []
        return files[0] if len(files) == 1 else name


def parse_paths(
    frame: pd.DataFrame, column: str, file_names: FileNames, path: Path, root: Path, faults: Faults
) -> list[str | None]:
    """Return the file names of a column, relative to the root, in which they must be."""
    way_in = functools.cache(lambda: _hint_outside(frame[column], file_names, root))

    def name_below(cell: str, line: int) -> str:
        if not cell.strip():
            fail(path, line, "path-empty", f"{column} is empty", "fill it or delete the row")
        name = file_names(cell)
        parts = name.split("/")
        if "\0" in name or len(name) > _PATH_LIMIT or max(map(_bytes, parts)) > _NAME_LIMIT:
            fail(path, line, "path-invalid", f"{cell[:40]!r} is not a file name", "fix the cell")
        if _URL.match(name):
            hint = "download the images, then write their file names"
            fail(path, line, "path-invalid", f"{cell[:40]!r} is a URL", hint)
        if file_names.file_index and len(files := file_names.file_index.find(name)) > 1:
            message = f"{cell!r} is the name of {len(files)} files, {files[0]} and {files[1]}"
            hint = "write the folder in the cell, or let dataset.images name a folder with one"
            fail(path, line, "ambiguous-image", message, hint)
        if not parts[0]:
            name = _below(root, name)
        if not name or ".." in parts:
            fail(path, line, "path-outside", f"{cell!r} leaves the folder of images", way_in())
        return posixpath.normpath(name)

    return _parse_cells(frame, column, name_below, faults)


def _hint_outside(cells: pd.Series[str], file_names: FileNames, root: Path) -> str:
    """Return the way out for paths that are not below a folder."""
    names = [file_names(cell) for cell in cells]
    near = nearest_files(root, names)
    change = common_change(near) if len(near) == len(set(names)) else None
    if change and file_names.strip_prefix is not None and not (change.folder or change.suffix):
        return f"set strip_prefix = {dump_value(change.strip_prefix)} in [dataset]"
    offer = f"did you mean {next(iter(near.values()))}? " if near else ""
    return f"{offer}write paths below {root}, without .., or give another folder of images"


def _below(root: Path, name: str) -> str:
    """Return an absolute path relative to a folder, "" if it is not below it."""
    name = posixpath.normpath(name)
    for folder in (os.path.abspath(root), os.path.realpath(root)):  # noqa: PTH100
        if name.startswith(folder.rstrip("/") + "/"):
            return posixpath.relpath(name, folder)
    return ""


def _bytes(name: str) -> int:
    return len(name.encode())


def read_exclusions(path: Path, paths: Sequence[str], faults: Faults) -> dict[str, str]:
    """Return the reason for each path that a CSV file with the columns path and reason excludes.

    A path that is not in `paths` is a fault, because it would exclude nothing. Raises DataError for
    a file that cannot be read.
    """
    _refuse_unset(path, "dataset.exclude", "")
    listed, known = read_csv(path, ["path", "reason"], faults=faults), set(paths)

    def known_path(name: str, line: int) -> str:
        if name not in known:
            hint = did_you_mean(name, paths) or "write paths as the dataset does, or delete the row"
            fail(path, line, "exclude-unknown", f"there is no sample {name!r}", hint)
        return name

    names = _parse_cells(listed, "path", known_path, faults)
    pairs = zip(names, listed["reason"], strict=True)
    return {name: reason for name, reason in pairs if name is not None}


def require_folder(path: Path, key: str, how_to_get: str = "") -> Path:
    """Return a folder that must exist. Raises DataError.

    `key` is the setting that names it, and `how_to_get` a hint for a user who does not have it.
    """
    _refuse_unset(path, key, how_to_get)
    if not path.is_dir():
        near = "" if path.exists() else hint_for_missing(path)
        hint = how_to_get or f"{near} give the folder with --set {key}=FOLDER".strip()
        raise DataError(Problem("missing-data", f"{path} is not a folder", hint, key))
    return path


def _refuse_unset(path: Path, key: str, how_to_get: str) -> None:
    if str(path).startswith("@"):
        name = path.parts[0][1:]
        hint = f'write {name} = "FOLDER" below [places] in sightx.local.toml, or --set {key}=FOLDER'
        raise DataError(
            Problem("missing-data", f"the place @{name} is not set", how_to_get or hint, key)
        )
