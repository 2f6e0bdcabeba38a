"""The table of images that one or several CSV files of labels describe."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sightx.data.classes import class_positions, find_classes, require_order
from sightx.data.csv_labels import (
    file_name,
    is_empty,
    parse_class_names,
    parse_grades,
    parse_paths,
    parse_splits,
    read_csv,
)
from sightx.data.decode.formats import is_image_name
from sightx.errors import DataError, Problem
from sightx.io.files import file_reader
from sightx.records.survey import Surveyor
from sightx.records.table import ImageTable

_MAX_NOTES = 5  # labels that are not classes, one by one


class _File(NamedTuple):
    """A CSV file, the split of all its rows ("" if they have none or a column of it), and cells."""

    path: Path
    split: str
    cells: pd.DataFrame


class _Columns(NamedTuple):
    """The columns of every file, and what is appended to file names."""

    image: str
    label: str
    group: str | Callable[[str], str]
    split: str
    suffix: str


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
    columns: Sequence[str] = (),
    drop_others: bool = False,
    more: Mapping[str, Path] | None = None,
    follow_links: bool = False,
) -> ImageTable:
    """Return the table that CSV files of images and labels describe.

    `image`, `label`, `group` and `split` name columns; `group` may also compute the group from the
    file name, to which `suffix` is appended. `columns` names all columns of a file without a
    header; `more` maps other splits to files, `path` is then the train split. With `numbers` labels
    are positions in `classes`; `drop_others` leaves out rows of other classes. Raises DataError,
    naming the line; SpecError if `classes` are needed for the order.
    """
    named = _Columns(image, label, group, split, suffix)
    paths = {"train" if more else "": path, **(more or {})}
    files = [_File(file, name, _read(file, named, columns)) for name, file in paths.items()]
    surveyor, listed = _note_nameless(files), _listed_files(files, named)
    if drop_others and classes:
        files = [_drop_others(file, label, image, classes, surveyor) for file in files]
    names = tuple(classes or _find_classes(files, label))
    parsed = (_parse(file, root, named, names, numbers=numbers) for file in files)
    frame = pd.concat(parsed, ignore_index=True)
    _check_classes(frame, names, label, path, ordered=ordered and classes is None)
    _check_unique(frame, names)
    _note_unlisted(root, frame["path"].tolist(), listed, surveyor)
    reader = file_reader(root, frame["path"].tolist(), follow_links=follow_links)
    frame = frame if more else frame.drop(columns="file")
    return ImageTable(frame, names, reader, ordered, str(path), root, surveyor.survey())


def _read(path: Path, named: _Columns, columns: Sequence[str]) -> pd.DataFrame:
    return read_csv(path, [name for name in named[:4] if isinstance(name, str) and name], columns)


def _listed_files(files: Sequence[_File], named: _Columns) -> set[str]:
    """Return all files that rows name, before rows are left out."""
    cells = [cell for file in files for cell in file.cells[named.image]]
    return {posixpath.normpath(file_name(cell, named.suffix)) for cell in cells}


def _note_nameless(files: Sequence[_File]) -> Surveyor:
    """Return a new surveyor that has counted columns without a name."""
    surveyor = Surveyor()
    for file in files:
        for at in file.cells.attrs["nameless"]:
            surveyor.note("columns without a name", f"column {at} of {file.path.name}")
    return surveyor


def _find_classes(files: Sequence[_File], label: str) -> tuple[str, ...]:
    counts = Counter[str]()
    for file in files:
        counts.update(cell for cell in file.cells[label] if not is_empty(cell))
    return find_classes(counts, str(files[0].path))


def _drop_others(
    file: _File, label: str, image: str, classes: Sequence[str], surveyor: Surveyor
) -> _File:
    """Leave out rows of other classes; a label that differs from a class in case stays, to fail."""
    labels = file.cells[label].unique()
    known = class_positions(labels, classes)
    folded = {name.strip().casefold() for name in classes}
    others = [
        name
        for name in labels
        if name not in known and not is_empty(name) and name.strip().casefold() not in folded
    ]
    for name in others:
        rows = file.cells[file.cells[label] == name]
        what = f"rows of {name.strip()!r}, which is not a class"
        if len(others) > _MAX_NOTES:
            what = "rows of labels that are not classes"
        surveyor.note(what, rows[image].iloc[0], count=len(rows))
    return file._replace(cells=file.cells[~file.cells[label].isin(others)])


def _parse(
    file: _File, root: Path, columns: _Columns, classes: Sequence[str], *, numbers: bool
) -> pd.DataFrame:
    """Return path, label, line, group, file and perhaps split of a file's rows."""
    path, cells, (image, label, group, split, suffix) = file.path, file.cells, columns
    paths = parse_paths(cells, image, suffix, path, root)
    if numbers:
        labels = parse_grades(cells, label, len(classes), path)
    else:
        labels, _ = parse_class_names(cells, label, classes, path)
    frame = pd.DataFrame({"path": paths, "label": labels, "line": cells.index, "group": ""})
    if callable(group):
        frame["group"] = [group(cell.strip()) for cell in cells[image]]
    elif group:
        frame["group"] = [cell.strip() for cell in cells[group]]
    if file.split:
        frame["split"] = file.split
    elif split:
        frame["split"] = parse_splits(cells, split, path)
    return frame.assign(file=str(path))


def _check_classes(
    frame: pd.DataFrame, names: Sequence[str], column: str, path: Path, *, ordered: bool
) -> None:
    """Refuse one class, and `ordered` classes whose order is only that of spelling."""
    if not len(frame):
        return
    if len(names) < 2:
        message = f"{column} has one class: {', '.join(names)}"
        problem = Problem("no-classes", message, "a classifier needs two or more", file=str(path))
        raise DataError(problem)
    if ordered:
        require_order(names)


def _check_unique(frame: pd.DataFrame, classes: Sequence[str]) -> None:
    """Refuse a path that is listed twice, naming both rows."""
    repeated = frame[frame["path"].duplicated(keep=False)]
    if not len(repeated):
        return
    first = repeated.iloc[0]
    repeats = repeated[repeated["path"] == first["path"]].iloc[1:]
    others = repeats[repeats["label"] != first["label"]]
    again = (others if len(others) else repeats).iloc[0]
    files = [str(row["file"]) for row in (first, again)]
    place = f"line {first['line']}" + (f" of {files[0]}" if files[0] != files[1] else "")
    count = repeated["path"].nunique()
    hint = f"keep one row of each; {count} images have several" if count > 1 else "keep one"
    code, message = "duplicate-row", f"{first['path']!r} is listed again, first on {place}"
    if len(others):
        code = "conflicting-labels"
        message = (
            f"{first['path']!r} is {classes[again['label']]!r} here, "
            f"but {classes[first['label']]!r} on {place}"
        )
    raise DataError(Problem(code, message, hint, file=files[1], line=int(again["line"])))


def _note_unlisted(
    root: Path, paths: Sequence[str], listed: Collection[str], surveyor: Surveyor
) -> None:
    """Count images that no row names, in the folders of those that rows name."""
    known = {*listed, *paths}
    for folder in sorted({posixpath.dirname(path) for path in paths}):
        try:
            names = sorted(entry.name for entry in os.scandir(root / folder))
        except OSError:
            continue  # its images are missing, which is an error later
        for name in names:
            path = posixpath.join(folder, name)
            if is_image_name(name) and not name.startswith(".") and path not in known:
                surveyor.note("images that no row names", path)
