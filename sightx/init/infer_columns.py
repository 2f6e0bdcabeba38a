"""Guess what the columns of a CSV file of labels mean, and where its images are."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pandas as pd

from sightx.data.csv_labels import file_name, looks_like_row, read_csv, read_first_line
from sightx.data.near_names import nearest_file
from sightx.errors import DataError, Problem
from sightx.records import split_called

_SUFFIXES = (
    "", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm",
    ".JPG", ".JPEG", ".PNG",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "labels", "class", "level", "grade", "diagnosis", "target", "category", "severity",
)  # fmt: skip
_GROUP_COLUMNS = (
    "group", "group_id", "patient", "patient_id", "patientid", "subject", "subject_id", "case",
    "case_id", "person", "participant", "animal", "animal_id",
)  # fmt: skip
_SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_MAX_FOLDERS = 200  # that are searched for the images of a CSV file
_SEARCH_ROWS = 5  # of a CSV file whose images are searched

_Settings = tuple[dict[str, Any], dict[str, str]]  # the table [dataset], and remarks on its keys


class Columns(NamedTuple):
    """The settings of the dataset `csv` for a file; "" for a column that the file does not have.

    `names` are those of all columns, if the file has no header.
    """

    images: str
    image: str
    suffix: str
    label: str
    group: str
    split: str
    is_eyepacs: bool
    names: tuple[str, ...] = ()


def csv_files_settings(files: Sequence[Path]) -> _Settings:
    """Return the settings for CSV files of one folder, which may have one split each.

    Raises DataError if there are several, and it is not clear which of them is the train split.
    """
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_in_name(file), []).append(file)
    train = files if len(files) == 1 else splits.get("train", [])
    if len(train) != 1:
        names = ", ".join(file.name for file in files[:8])
        message, hint = f"{files[0].parent} contains {names}", f"give one: {(train or files)[0]}"
        raise DataError(Problem("several-files", message, hint))
    settings, remarks = csv_settings(train[0])
    not_used = []
    for file in files:
        split = _split_in_name(file)
        if file == train[0]:
            continue
        if split in ("validation", "test") and (reason := _unlike(file, settings)) is None:
            settings = _insert(settings, f"{split}_labels", file.name)
        elif split in ("validation", "test"):
            not_used.append(f"{file.name} ({reason})")
        else:
            not_used.append(file.name)
    if not_used:
        remarks["labels"] = f"Not used: {', '.join(not_used)}."
    return settings, remarks


def _split_in_name(file: Path) -> str:
    """Return the only split that the words of a name mean, "" for none or several."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", file.stem)
    splits = {split_called(word) for word in words} - {""}
    return splits.pop() if len(splits) == 1 else ""


def _unlike(file: Path, settings: dict[str, Any]) -> str | None:
    """Return why a CSV file cannot be another split of a dataset, None if it can."""
    if "split" in settings:
        return f"the splits are in the column {settings['split']!r}"
    if settings["use"] != "csv":
        return f"{settings['use']} reads one file"
    needed = [settings[key] for key in ("image", "label", "group") if key in settings]
    try:
        cells = read_csv(file, needed, settings.get("columns", ()))
    except DataError as error:
        return error.problems[0].message
    folder, suffix = file.parent / settings["images"], settings.get("suffix", "")
    rows = cells[settings["image"]].head(_SEARCH_ROWS)
    if not any(_is_file(folder, file_name(cell, suffix)) for cell in rows):
        return f"its images are not in {folder}"
    return None


def _insert(settings: dict[str, Any], key: str, value: str) -> dict[str, Any]:
    """Return settings with another key behind `labels` and keys like it."""
    head = {key: settings[key] for key in settings if key in ("use", "root") or "labels" in key}
    return {**head, key: value, **settings}


def csv_settings(path: Path) -> _Settings:
    """Return the [dataset] table for a CSV file, and remarks on some of its keys."""
    columns = infer_columns(path)
    settings = {"use": "eyepacs" if columns.is_eyepacs else "csv", "root": str(path.parent)}
    settings |= {"labels": path.name, "images": columns.images}
    if columns.is_eyepacs:
        return settings, {"use": "Columns image and level, left and right eyes: as in EyePACS."}
    keys = ("image", "label", "group", "split", "suffix")
    values = {key: value for key in keys if (value := getattr(columns, key))}
    if not columns.names:
        return {**settings, **values}, {}
    remark = "The file has no header: these are names for its columns."
    return {**settings, "columns": list(columns.names), **values}, {"columns": remark}


def infer_columns(path: Path) -> Columns:
    """Guess the meaning of the columns of a CSV file. Raises DataError if that is not clear."""
    if (without_header := _infer_without_header(path)) is not None:
        return without_header
    cells = read_csv(path, [])
    if not len(cells):
        problem = Problem("no-samples", "there are no rows", "add a row per image", file=str(path))
        raise DataError(problem)
    image, images, suffix = _find_images(path, cells) or _fail_without_images(path, cells)
    group = _column_called(cells, _GROUP_COLUMNS)
    split = _column_called(cells, _SPLIT_COLUMNS)
    if split and not _are_splits(cells[split]):
        split = ""
    label = _label_column(path, cells.drop(columns=list({image, group, split} - {""})))
    is_eyepacs = (image, label, suffix) == ("image", "level", ".jpeg") and bool(
        cells[image].str.endswith(("_left", "_right")).all() and cells[label].isin([*"01234"]).all()
    )
    return Columns(images, image, suffix, label, group, split, is_eyepacs)


def _infer_without_header(path: Path) -> Columns | None:
    """Return the columns of a file whose first line names an image, None if it is a header."""
    first = read_first_line(path)
    if not looks_like_row(first):
        return None
    names = [f"column{number}" for number in range(1, len(first) + 1)]
    cells = read_csv(path, [], names)
    if (found := _find_images(path, cells)) is None:
        return None
    image, images, suffix = found
    if not _is_file(path.parent / images, file_name(str(cells[image].iat[0]), suffix)):
        return None
    split = next((name for name in names if _are_splits(cells[name])), "")
    label = _label_column(path, cells.drop(columns=list({image, split} - {""})))
    renamed = {image: "image", label: "label", split: "split"}
    columns = tuple(renamed.get(name, name) for name in names)
    return Columns(images, "image", suffix, "label", "", split and "split", False, columns)


def _are_splits(cells: pd.Series[str]) -> bool:
    return all(not cell.strip() or split_called(cell) for cell in cells) and any(cells)


def _find_images(path: Path, cells: pd.DataFrame) -> tuple[str, str, str] | None:
    """Return the column that names image files, their folder below the CSV file's, and a suffix."""
    best, most = None, 0
    for folder in _search_folders(path.parent):
        for suffix, column in product(_SUFFIXES, cells.columns):
            head = cells[column].head(_SEARCH_ROWS)
            names = [file_name(cell, suffix) for cell in head if cell.strip()]
            count = sum(_is_file(folder, name) for name in names)
            if count > most:
                images = folder.relative_to(path.parent).as_posix()
                if names[0].startswith("/"):
                    images = _common_folder(path.parent, cells[column])
                best, most = (column, images, suffix), count
    return best


def _common_folder(root: Path, cells: pd.Series[str]) -> str:
    """Return the folder that contains all images with absolute paths, relative if in the root."""
    folders = [posixpath.dirname(file_name(cell)) for cell in cells if cell.strip()[:1] == "/"]
    common = Path(os.path.commonpath(folders))
    root = Path(os.path.abspath(root))  # noqa: PTH100 - Path.absolute keeps `..`
    return common.relative_to(root).as_posix() if common.is_relative_to(root) else str(common)


def _fail_without_images(path: Path, cells: pd.DataFrame) -> NoReturn:
    row = {str(name): str(cells[name].iat[0]) for name in list(cells.columns)[:4]}
    hint = f"its first row has {', '.join(f'{name} {cell!r}' for name, cell in row.items())}"
    for cell in row.values():
        if cell.strip() and (near := nearest_file(path.parent, cell)):
            hint = f"did you mean {near} for {cell!r}?"
            break
    message = f"no column names image files at or below {path.parent}"
    raise DataError(Problem("missing-images", message, hint, file=str(path)))


def _search_folders(root: Path) -> Iterator[Path]:
    """Yield a folder, its subfolders, and theirs."""
    level, remaining = [root], _MAX_FOLDERS
    for _ in range(3):
        yield from level[:remaining]
        remaining = max(0, remaining - len(level))
        level = [inner for folder in level for inner in sorted(visible_folders(folder))]


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones and those of operating systems."""
    paths = [path for path in folder.iterdir() if path.is_dir()]
    return [path for path in paths if not path.name.startswith((".", "__", "@eaDir", "$"))]


def _is_file(folder: Path, name: str) -> bool:
    return os.path.isfile(folder / name)  # noqa: PTH113 - Path.is_file raises for long names


def _column_called(cells: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the first column with one of these names, or ""."""
    return next((str(name) for name in cells if str(name).strip().lower() in names), "")


def _label_column(path: Path, cells: pd.DataFrame) -> str:
    """Return the column of the class: by its name, or the only possible one."""
    if column := _column_called(cells, _LABEL_COLUMNS):
        return column
    limit = max(2, len(cells) // 2)
    candidates = [str(name) for name in cells if 1 < cells[name].nunique() <= limit]
    if len(candidates) == 1:
        return candidates[0]
    others = ", ".join(map(str, cells.columns)) or "none is left"
    problem = Problem("no-label", f"no column is clearly the class: {others}", "call it `label`")
    raise DataError(problem.at(str(path), 1))
