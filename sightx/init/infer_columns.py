"""Guess what the columns of a CSV file of labels mean, and where its images are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sightx.data.csv_reader import CsvFormat, read_csv
from sightx.errors import DataError, Problem
from sightx.init.find_images import SEARCH_ROWS, Images, Table, read_table, search_folders
from sightx.records import split_called

_LABEL_COLUMNS = (
    "label", "labels", "class", "level", "grade", "diagnosis", "target", "category", "severity",
)  # fmt: skip
_GROUP_COLUMNS = (
    "group", "group_id", "patient", "patient_id", "patientid", "subject", "subject_id", "case",
    "case_id", "person", "participant", "animal", "animal_id",
)  # fmt: skip
_SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_MAX_CLASSES = 10  # that are numbers with fractions
_PLAIN = CsvFormat(",", "utf-8")
_REMARKS = {  # on keys of [dataset], where they occur
    "columns": "The file has no header: these are names for its columns.",
    "encoding": "The file is not UTF-8: look at the names of the classes.",
    "one_hot": "Each class has a column, with 1 in the rows of its images.",
    "search_subfolders": "The names lack the folders of the images, or their endings.",
    "strip_prefix": "The file names begin with a folder that is not used.",
}

_Settings = tuple[dict[str, Any], dict[str, str]]  # the table [dataset], and remarks on its keys


class Columns(NamedTuple):
    """The settings of the dataset `csv` for a file; "" for a column that the file does not have.

    `one_hot` are the columns of the classes, if each has one; `names` are those of all columns, if
    the file has no header.
    """

    found: Images
    label: str
    one_hot: tuple[str, ...]
    group: str
    split: str
    is_eyepacs: bool
    form: CsvFormat
    names: tuple[str, ...] = ()


def csv_files_settings(
    files: Sequence[Path], given: Path | None = None, root: Path | None = None
) -> _Settings:
    """Return the settings for CSV files, which may have one split each.

    `given` is the one that the user has named; `root` contains the files and their images, and is
    the folder of the first file by default. Raises DataError if there are several files, and it is
    not clear which of them is the train split.
    """
    root = root or files[0].parent
    split_of = {file: _split_of_table(file, root) for file in files}
    train = [given] if given else [file for file in files if split_of[file] == "train"]
    train = train or list(files)
    if len(train) != 1:
        names = ", ".join(file.relative_to(root).as_posix() for file in files[:8])
        message, hint = f"{root} contains {names}", f"give one: {train[0]}"
        raise DataError(Problem("several-files", message, hint))
    settings, remarks = csv_settings(train[0], root)
    is_train = split_of[train[0]] == "train" or "train" not in split_of.values()
    joins = is_train and split_of[train[0]] not in ("validation", "test")
    not_used = []
    for file in files:
        if file == train[0]:
            continue
        joined = _joined(file, split_of[file], settings, root) if joins else ""
        if isinstance(joined, str):
            name = file.relative_to(root).as_posix()
            not_used.append(f"{name} ({joined})" if joined else name)
        else:
            settings = joined
    if not_used:
        remarks["labels"] = f"Not used: {', '.join(not_used[:8])}."
    return settings, remarks


def _joined(file: Path, split: str, settings: dict[str, Any], root: Path) -> dict[str, Any] | str:
    """Return the settings with a CSV file as another split, or why it cannot be; "" for no reason.

    Its images may be in another folder than those of the train split.
    """
    key = f"{split}_labels"
    if split not in ("validation", "test"):
        return ""
    if key in settings:
        return f"like {settings[key]}"
    cells = _similar_cells(file, settings)
    if isinstance(cells, str):
        return cells
    same = root / settings["images"]
    searched = [*search_folders(file.parent), *search_folders(root)]
    # Other splits may have images of the same names: folders that are called like the split first.
    named = [
        folder
        for folder in searched
        if any(split_called(part) == split for part in folder.relative_to(root).parts)
    ]
    keys = ("suffix", "strip_prefix", "search_subfolders")
    images = Images(
        settings["image"], "", **{key: settings[key] for key in keys if key in settings}
    )
    for folder in dict.fromkeys([*named, same, *searched]):
        if images.files(folder, cells.head(SEARCH_ROWS)):
            settings = _insert(settings, key, file.relative_to(root).as_posix())
            if folder == same:
                return settings
            return settings | {f"{split}_images": folder.relative_to(root).as_posix()}
    return f"its images are not below {root}"


def _split_of_table(file: Path, root: Path) -> str:
    """Return the split that the name of a file means, else that of its folder below `root`."""
    return _split_in_name(file) or (split_called(file.parent.name) if file.parent != root else "")


def _split_in_name(file: Path) -> str:
    """Return the only split that the words of a name mean, "" for none or several."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", file.stem)
    splits = {split_called(word) for word in words} - {""}
    return splits.pop() if len(splits) == 1 else ""


def _similar_cells(file: Path, settings: dict[str, Any]) -> pd.Series[str] | str:
    """Return the names of images in a CSV file with the same columns, or why there are none."""
    if "split" in settings:
        return f"the splits are in the column {settings['split']!r}"
    if settings["use"] != "csv":
        return f"{settings['use']} reads one file"
    needed = [settings[key] for key in ("image", "label", "group") if key in settings]
    needed += settings.get("one_hot", ())
    form = CsvFormat(settings.get("separator", ","), settings.get("encoding", "utf-8"))
    try:
        cells = read_csv(file, needed, settings.get("columns", ()), **form._asdict())
    except DataError as error:
        return error.problems[0].message
    images: pd.Series[str] = cells[needed[0]]
    return images


def _insert(settings: dict[str, Any], key: str, value: str) -> dict[str, Any]:
    """Return settings with another key behind `labels` and keys like it."""
    head = {key: settings[key] for key in settings if key in ("use", "root") or "labels" in key}
    return {**head, key: value, **settings}


def csv_settings(path: Path, root: Path | None = None) -> _Settings:
    """Return the [dataset] table for a CSV file, and remarks on some of its keys.

    `root` contains the file and its images; by default it is the folder of the file.
    """
    root = root or path.parent
    columns = infer_columns(path, root)
    settings = {"use": "eyepacs" if columns.is_eyepacs else "csv", "root": str(root)}
    settings |= {"labels": path.relative_to(root).as_posix(), "images": columns.found.folder}
    if columns.is_eyepacs:
        return settings, {"use": "Columns image and level, left and right eyes: as in EyePACS."}
    values = {
        "separator": columns.form.separator if columns.form.separator != "," else "",
        "encoding": columns.form.encoding if columns.form.encoding != "utf-8" else "",
        "columns": list(columns.names),
        "image": columns.found.column,
        "label": columns.label,
        "one_hot": list(columns.one_hot),
        "group": columns.group,
        "split": columns.split,
        "strip_prefix": columns.found.strip_prefix,
        "suffix": columns.found.suffix,
        "search_subfolders": columns.found.search_subfolders,
    }
    return settings | {key: value for key, value in values.items() if value}, dict(_REMARKS)


def infer_columns(path: Path, root: Path | None = None) -> Columns:
    """Guess the meaning of the columns of a CSV file. Raises DataError if that is not clear.

    `root` contains the file and its images; by default it is the folder of the file.
    """
    table = read_table(path, root or path.parent)  # the dataset reports ragged rows with others
    if not table.has_header:
        return _infer_without_header(path, table)
    cells, found, form, *_ = table
    group = _column_called(cells, _GROUP_COLUMNS)
    split = _column_called(cells, _SPLIT_COLUMNS)
    if split and not _are_splits(cells[split]):
        split = ""
    others = cells.drop(columns=list({found.column, group, split} - {""}))
    one_hot = () if _column_called(others, _LABEL_COLUMNS) else _one_hot_columns(others)
    label = "" if one_hot else _label_column(path, others)
    is_eyepacs = (found.column, label, found.suffix) == ("image", "level", ".jpeg") and bool(
        cells["image"].str.endswith(("_left", "_right")).all()
        and cells["level"].isin([*"01234"]).all()
        and not (found.strip_prefix or found.search_subfolders)
        and form == _PLAIN
    )
    return Columns(found, label, one_hot, group, split, is_eyepacs, form)


def _infer_without_header(path: Path, table: Table) -> Columns:
    cells, found, form, *_ = table
    names = [str(name) for name in cells]
    split = next((name for name in names if _are_splits(cells[name])), "")
    label = _label_column(path, cells.drop(columns=list({found.column, split} - {""})))
    renamed = {found.column: "image", label: "label", split: "split"}
    columns = tuple(renamed.get(name, name) for name in names)
    found = found._replace(column="image")
    return Columns(found, "label", (), "", split and "split", False, form, columns)


def _are_splits(cells: pd.Series[str]) -> bool:
    return all(not cell.strip() or split_called(cell) for cell in cells) and any(cells)


def _column_called(cells: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the first column with one of these names, or ""."""
    return next((str(name) for name in cells if str(name).strip().lower() in names), "")


def _one_hot_columns(cells: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns that have 0 or 1 in every row if exactly one of them has 1, else ()."""
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    binary = numbers.loc[:, numbers.isin([0, 1]).all()]
    is_one_hot = len(binary.columns) > 1 and (binary.sum(axis=1) == 1).all() and binary.any().all()
    return tuple(map(str, binary.columns)) if is_one_hot else ()


def _label_column(path: Path, cells: pd.DataFrame) -> str:
    """Return the column of the class: by its name, or the only possible one."""
    if column := _column_called(cells, _LABEL_COLUMNS):
        _refuse_measurements(path, cells[column])
        return column
    limit = max(2, len(cells) // 2)
    candidates = [str(name) for name in cells if 1 < cells[name].nunique() <= limit]
    if len(candidates) == 1:
        return candidates[0]
    others = ", ".join(map(str, cells.columns)) or "none is left"
    problem = Problem("no-label", f"no column is clearly the class: {others}", "call it `label`")
    raise DataError(problem.at(str(path), 1))


def _refuse_measurements(path: Path, cells: pd.Series[str]) -> None:
    """Raise DataError for a column of numbers with fractions, most of which are different."""
    numbers = pd.to_numeric(cells.drop_duplicates(), errors="coerce")
    if len(numbers) > max(_MAX_CLASSES, len(cells) // 2) and (numbers % 1 > 0).any():
        message = f"{cells.name!r} has {len(numbers)} different numbers, as measurements have"
        hint = "a classifier needs classes: group the numbers in another column"
        raise DataError(Problem("no-label", message, hint).at(str(path), 1))
