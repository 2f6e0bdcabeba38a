"""The table of images that one or several CSV files of labels describe."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sightx.data.classes import (
    class_key,
    class_name,
    class_positions,
    find_classes,
    require_order,
)
from sightx.data.csv_labels import (
    FileNames,
    is_empty,
    parse_class_names,
    parse_grades,
    parse_one_hot,
    parse_paths,
    parse_splits,
)
from sightx.data.csv_reader import CsvFormat, read_csv
from sightx.data.decode.formats import is_image_name
from sightx.data.near_names import FileIndex
from sightx.errors import DataError, Problem
from sightx.io.files import file_reader
from sightx.records import split_called
from sightx.records.faults import Faults
from sightx.records.survey import Surveyor
from sightx.records.table import ImageTable

_ONE_HOT = "(one-hot)"  # the column of the class that columns of all classes are read into
_MAX_FILES = 200_000  # that are compared with the rows
_MAX_NUMBERS = 10  # with fractions, that are classes rather than measurements
_MAX_NOTES = 5  # labels that are not classes, one by one


class _File(NamedTuple):
    """A CSV file, the split of all its rows ("" if they have none or a column of it), and cells.

    `folder` contains its images; "" is the folder that contains the images of all files.
    `file_names` say how its cells name them.
    """

    path: Path
    split: str
    cells: pd.DataFrame
    folder: str
    file_names: FileNames

    def below_root(self, name: str) -> str:
        """Return the name of an image relative to the folder of all images."""
        return posixpath.join(self.folder, name)


class _Columns(NamedTuple):
    """The columns of every file.

    `one_hot` are the columns of the classes, if the files have one for each instead of `label`.
    """

    image: str
    label: str
    group: str | Callable[[str], str]
    split: str
    one_hot: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def needed(self) -> list[str]:
        """Return the columns that a file must have."""
        labels = self.one_hot or (self.label,)
        names = [self.image, *labels, self.group, self.split, *self.extra]
        return [name for name in names if isinstance(name, str) and name]


def table_from_csv(
    path: Path, *, root: Path, image: str, label: str = "", one_hot: Sequence[str] = (),
    group: str | Callable[[str], str] = "", split: str = "", suffix: str = "",
    strip_prefix: str | None = None, classes: Sequence[str] | None = None, ordered: bool = False,
    numbers: bool = False, columns: Sequence[str] = (), drop_others: bool = False,
    more: Mapping[str, Path] | None = None, roots: Mapping[str, Path] | None = None,
    follow_links: bool = False, separator: str | None = None, encoding: str | None = None,
    extra: Sequence[str] = (), search_subfolders: bool = False,
) -> ImageTable:  # fmt: skip
    """Return the table that CSV files of images and labels describe.

    `image`, `label`, `group` and `split` name columns; `group` may also compute the group from the
    file name. `one_hot` names a column for each class, of which one has 1, in place of `label`.
    `strip_prefix` is left out of file names (None if the dataset has no setting for it), and
    `suffix` is appended to them. `columns` names all columns of a file without a header; `more`
    maps other splits to files, `path` is then the train split; `roots` maps them to other folders
    of images than `root`. With `numbers` labels are positions in `classes`; `drop_others` leaves
    out rows of other classes. `separator` and `encoding` are as for `read_csv`. `extra` names
    columns to keep as text. With `search_subfolders` names may lack folders and endings. Raises
    DataError, or SpecError for the order; with the rows that are right, it is IncompleteTableError.
    """
    label, faults, form = _ONE_HOT if one_hot else label, Faults(), CsvFormat(separator, encoding)
    named = _Columns(image, label, group, split, tuple(one_hot), tuple(extra))
    paths = {"train" if more else "": path, **(more or {})}
    root, folders = _common_root(dict.fromkeys(paths, root) | dict(roots or {}))
    cells = {name: _read(file, named, columns, form, faults) for name, file in paths.items()}
    indices = {key: FileIndex(root / at) for key, at in folders.items() if search_subfolders}
    names_in = {key: FileNames(strip_prefix, suffix, indices.get(key)) for key in paths}
    files = [_File(paths[key], key, cells[key], folders[key], names_in[key]) for key in paths]
    surveyor, listed = _note_unread(files), _listed_files(files, named)
    if (declared := tuple(classes or one_hot)) and drop_others:
        files = [_drop_others(file, named, declared, surveyor) for file in files]
    names = declared or _find_classes(files, label, faults)
    parsed = [_parse(file, root, named, names, faults, numbers=numbers) for file in files]
    _check_classes(files, names, label, faults, ordered=ordered and not declared)
    frame = _unique_rows(pd.concat(parsed, ignore_index=True), names, faults)
    _look_at_rows(root, frame, names, listed, surveyor)
    reader = file_reader(root, frame["path"].tolist(), follow_links=follow_links)
    frame, survey = frame if more else frame.drop(columns="file"), surveyor.survey()
    return faults.refuse(ImageTable(frame, names, reader, ordered, str(path), root, survey))


def _common_root(roots: Mapping[str, Path]) -> tuple[Path, dict[str, str]]:
    """Return the folder that contains several ones, and the place of each in it, "" for itself."""
    if len(different := set(roots.values())) == 1:
        return different.pop(), dict.fromkeys(roots, "")
    absolute = {split: os.path.abspath(folder) for split, folder in roots.items()}  # noqa: PTH100
    common = os.path.commonpath(absolute.values())
    places = {split: os.path.relpath(folder, common) for split, folder in absolute.items()}
    return Path(common), {split: "" if at == "." else at for split, at in places.items()}


def _read(
    path: Path, columns: _Columns, names: Sequence[str], form: CsvFormat, faults: Faults
) -> pd.DataFrame:
    """Return the cells of a file; the column `_ONE_HOT` has the classes of columns of classes."""
    cells = read_csv(path, columns.needed, names, **form._asdict(), faults=faults)
    if not columns.one_hot:
        return cells
    labels = parse_one_hot(cells, columns.one_hot, path, faults)
    attrs, cells = cells.attrs, cells.loc[labels.index].assign(**{_ONE_HOT: labels})
    cells.attrs.update(attrs)
    return cells


def _listed_files(files: Sequence[_File], named: _Columns) -> set[str]:
    """Return all files that rows name, before rows are left out."""
    return {
        posixpath.normpath(file.below_root(file.file_names(cell)))
        for file in files
        for cell in file.cells[named.image]
    }


def _note_unread(files: Sequence[_File]) -> Surveyor:
    """Return a new surveyor that has counted the columns and lines that were not read."""
    surveyor = Surveyor()
    for file in files:
        attrs, name = file.cells.attrs, file.path.name
        for at in attrs["nameless"]:
            what = "column without a name", "columns without a name"
            surveyor.note(*what, f"column {at} of {name}")
        for line in attrs["comments"]:
            surveyor.note("comment", "comments", f"line {line} of {name}")
        for line in attrs["empty"]:
            surveyor.note("empty row", "empty rows", f"line {line} of {name}")
    return surveyor


def _look_at_rows(
    root: Path,
    frame: pd.DataFrame,
    classes: Sequence[str],
    listed: Collection[str],
    surveyor: Surveyor,
) -> None:
    """Count rows whose cell of the split is empty, and images without a row; doubt classes."""
    if "split" in frame and len(paths := frame["path"][frame["split"] == ""]):
        what = "row without a split", "rows without a split"
        surveyor.note(*what, str(paths.iat[0]), count=len(paths))
    _note_unlisted(root, frame["path"].tolist(), listed, surveyor)
    _doubt_numbers(classes, surveyor)


def _find_classes(files: Sequence[_File], label: str, faults: Faults) -> tuple[str, ...]:
    """Return the classes that occur; names that differ in their spelling only are a fault."""
    counts, places = Counter[str](), dict[str, tuple[str, Any]]()
    for file in files:
        counts.update(cell for cell in file.cells[label] if not is_empty(cell))
        for line, cell in file.cells[label].drop_duplicates().items():
            places.setdefault(cell, (str(file.path), line))
    try:
        return find_classes(counts, str(files[0].path), places)
    except DataError as error:
        for problem in error.problems:
            faults.add(problem)
    return tuple({class_key(name): class_name(name) for name in sorted(counts)}.values())


def _drop_others(
    file: _File, columns: _Columns, classes: Sequence[str], surveyor: Surveyor
) -> _File:
    """Leave out rows of other classes; a label that differs from a class in case stays, to fail."""
    cells = file.cells[columns.label]
    labels = cells.unique()
    known = class_positions(labels, classes)
    folded = {name.strip().casefold() for name in classes}
    others = [
        name
        for name in labels
        if name not in known and not is_empty(name) and name.strip().casefold() not in folded
    ]
    for name in others:
        images = file.cells[columns.image][cells == name]
        of = f"of {name.strip()!r}, which is not a class"
        if len(others) > _MAX_NOTES:
            of = "of labels that are not classes"
        surveyor.note(f"row {of}", f"rows {of}", images.iloc[0], count=len(images))
    return file._replace(cells=file.cells[~cells.isin(others)])


def _parse(
    file: _File,
    root: Path,
    columns: _Columns,
    classes: Sequence[str],
    faults: Faults,
    *,
    numbers: bool,
) -> pd.DataFrame:
    """Return path, label, line, group, file and perhaps split of the rows that are right."""
    path, cells, (image, label, group, split, *_) = file.path, file.cells, columns
    names = parse_paths(cells, image, file.file_names, path, root / file.folder, faults)
    paths = [None if name is None else file.below_root(name) for name in names]
    if numbers:
        labels = parse_grades(cells, label, len(classes), path, faults)
    else:
        labels = parse_class_names(cells, label, classes, path, faults)
    frame = pd.DataFrame({"path": paths, "label": labels, "line": cells.index, "group": ""})
    for name in columns.extra:
        frame[name] = [cell.strip() for cell in cells[name]]
    if callable(group):
        frame["group"] = [group(cell.strip()) for cell in cells[image]]
    elif group:
        frame["group"] = [cell.strip() for cell in cells[group]]
    if file.split:
        frame["split"] = file.split
    elif split:
        frame["split"] = parse_splits(cells, split, path, faults)
    return frame.dropna().astype({"label": np.int64}).assign(file=str(path))


def _check_classes(
    files: Sequence[_File], names: Sequence[str], column: str, faults: Faults, *, ordered: bool
) -> None:
    """Refuse fewer than two classes, and `ordered` ones whose order is only that of spelling."""
    if not any(len(file.cells) for file in files):
        return
    if len(names) < 2:
        message = f"{column} has one class: {', '.join(names)}" if names else "there are no labels"
        hint = "a classifier needs two classes or more"
        faults.add(Problem("no-classes", message, hint, file=str(files[0].path)))
        faults.refuse(None)
    if ordered:
        require_order(names)


def _unique_rows(frame: pd.DataFrame, classes: Sequence[str], faults: Faults) -> pd.DataFrame:
    """Return the first row of each path; add paths with several rows to the faults."""
    is_first = ~frame["path"].duplicated()
    originals = frame[is_first].set_index("path")
    repeats = frame[~is_first]
    of_repeats = originals.loc[repeats["path"]]
    conflicts = (repeats["label"].to_numpy() != of_repeats["label"].to_numpy()).astype(bool)
    for is_conflict in (True, False):
        code = "conflicting-labels" if is_conflict else "duplicate-row"
        rows = repeats[conflicts == is_conflict]
        if not len(rows):
            continue
        again = rows.iloc[0]
        path, first = again["path"], originals.loc[again["path"]]
        place = f"line {first['line']}"
        place += f" of {first['file']}" if first["file"] != again["file"] else ""
        message = f"{path!r} is listed again, first on {place}"
        if is_conflict:
            names = [classes[row["label"]] for row in (again, first)]
            message = f"{path!r} is {names[0]!r} here, but {names[1]!r} on {place}"
        count = rows["path"].nunique()
        hint = f"keep one row of each; {count} images have several" if count > 1 else "keep one"
        problem = Problem(code, message, hint, file=str(again["file"]), line=int(again["line"]))
        faults.add(problem, len(rows))
    return frame[is_first]


def _note_unlisted(
    root: Path, paths: Sequence[str], listed: Collection[str], surveyor: Surveyor
) -> None:
    """Count images that no row names, in and below the folders of those that rows name.

    If such a folder is called like a split, folders of other splits next to it count, too.
    """
    known, count = {*listed, *paths}, 0
    folders = {posixpath.dirname(path) for path in paths}
    remaining, seen = sorted({*folders, *_other_splits(root, folders)}), set[str]()
    while remaining and count < _MAX_FILES:
        folder = remaining.pop(0)
        for entry in _visible_entries(root / folder) if folder not in seen else ():
            path, count = posixpath.join(folder, entry.name), count + 1
            if entry.is_dir(follow_symlinks=False):
                remaining.append(path)
            elif is_image_name(entry.name) and path not in known:
                surveyor.note("image that no row names", "images that no row names", path)
        seen.add(folder)


def _other_splits(root: Path, folders: Collection[str]) -> Iterator[str]:
    """Yield the folders of splits next to folders of splits, relative to the root."""
    for folder in folders:
        name = posixpath.basename(folder) or root.absolute().name
        if split_called(name):
            parent = posixpath.dirname(folder) if folder else ".."
            for entry in _visible_entries(root / parent):
                if entry.is_dir() and entry.name != name and split_called(entry.name):
                    yield posixpath.join(parent, entry.name)


def _visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder contains, sorted; [] for a run and for what cannot be read."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []  # its images are missing, which is an error later
    is_run = "experiment.toml" in {entry.name for entry in entries}
    return [] if is_run else [entry for entry in entries if not entry.name.startswith(".")]


def _doubt_numbers(classes: Sequence[str], surveyor: Surveyor) -> None:
    """Doubt many classes that are numbers with fractions."""
    fractions = [name for name in classes if re.fullmatch(r"-?[0-9]+\.[0-9]+", class_key(name))]
    if len(fractions) > _MAX_NUMBERS:
        message = f"{len(fractions)} classes are numbers with fractions, such as {fractions[0]}"
        surveyor.doubt(message, "are they measurements? a classifier needs classes")
