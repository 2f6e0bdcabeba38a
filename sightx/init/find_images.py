"""Find the images that a CSV file of labels names: in one folder, or in the folders below it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sightx.data.csv_labels import FileNames
from sightx.data.csv_reader import (
    CsvFormat,
    detect_format,
    header_problems,
    names_without_header,
    read_csv,
)
from sightx.data.decode.formats import is_image_name
from sightx.data.near_names import FileIndex, common_change, describe_differences, nearest_files
from sightx.errors import DataError, Problem
from sightx.io.files import shell_path, user_path
from sightx.records import split_called
from sightx.records.faults import Faults

_SUFFIXES = (
    "", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm",
    ".JPG", ".JPEG", ".PNG",
)  # fmt: skip
SEARCH_ROWS = 5  # of a CSV file whose images are searched
_MAX_FOLDERS = 200  # that are searched for the images of a CSV file


class Images(NamedTuple):
    """Where the images of a CSV file are: its column, a folder, and how names are changed.

    With `search_subfolders` names lack the folders below that one, and perhaps their endings.
    """

    column: str
    folder: str
    suffix: str = ""
    strip_prefix: str = ""
    search_subfolders: bool = False

    def files(self, root: Path, cells: Iterable[str]) -> list[str]:
        """Return the files that cells name, relative to the folder; without cells that name none.

        A name that is that of several files names none.
        """
        names = file_names(cells, self)
        if self.search_subfolders:
            index = FileIndex(root / self.folder)
            return [paths[0] for name in names if len(paths := index.find(name)) == 1]
        return [name for name in names if _is_file(root / self.folder, name)]


class Table(NamedTuple):
    """A CSV file: its cells, where its images are, how it is written, and its ragged rows.

    Without a header the columns are called `column1`, `column2` and so on.
    """

    cells: pd.DataFrame
    images: Images
    form: CsvFormat
    has_header: bool
    ragged: Faults


def list_images(path: Path) -> list[Path]:
    """Return the images that a CSV file lists, one per row.

    Its column `path` has paths below the folder of the file. In a file without this column, such as
    a table of labels, images are searched as `sightx init` does; those that are not found are
    returned too. Raises DataError if no column names images, or names are those of several files.
    """
    root, form = path.parent, detect_format(path)._asdict()
    if not header_problems(path, "", {"path": ""}, **form):
        return [root / user_path(name) for name in read_csv(path, ["path"], **form)["path"]]
    table = read_table(path, root)
    table.ragged.refuse(None)
    images, folder = table.images, root / table.images.folder
    index = FileIndex(folder) if images.search_subfolders else None
    file_name = FileNames(images.strip_prefix, images.suffix, index)
    return [folder / file_name(cell) for cell in table.cells[images.column]]


def read_table(path: Path, root: Path) -> Table:
    """Return a CSV file whose images are at or below `root`; its cells are without ragged rows.

    Raises DataError if there are no rows or no images, or names are those of several files.
    """
    form = detect_format(path)
    if names := names_without_header(path, form):
        cells = read_csv(path, [], names, **form._asdict(), faults=(ragged := Faults()))
        images = find_images(path, cells, root)
        if images and images.files(root, cells[images.column].head(1)):
            return Table(cells, images, form, False, ragged)
    cells = read_csv(path, [], **form._asdict(), faults=(ragged := Faults()))
    if not len(cells):
        ragged.refuse(None)
        problem = Problem("no-samples", "there are no rows", "add a row per image", file=str(path))
        raise DataError(problem)
    images = find_images(path, cells, root) or find_near_images(path, cells, root)
    return Table(cells, images, form, True, ragged)


def find_images(path: Path, cells: pd.DataFrame, root: Path) -> Images | None:
    """Return the column that names image files, and where those are below `root`.

    Raises DataError if names are those of several files.
    """
    images = _find_in_one_folder(path, cells, root)
    names = file_names(cells[images.column], images) if images else []
    count = len(images.files(root, cells[images.column])) if images else 0
    if count and count == len(names) == len(set(map(posixpath.normpath, names))):
        return images
    in_subfolders, most = _find_in_subfolders(path, cells, root)
    return in_subfolders if most > count else images


def file_names(cells: Iterable[str], images: Images) -> list[str]:
    """Return the names in cells that are not empty, with the changes of `images`."""
    change = FileNames(images.strip_prefix, images.suffix)
    return [change(cell) for cell in cells if cell.strip()]


def _find_in_subfolders(path: Path, cells: pd.DataFrame, root: Path) -> tuple[Images | None, int]:
    """Return the folder below which most names of a column are those of one file, and how many.

    Raises DataError if other names are those of several files.
    """
    index, best, most = FileIndex(root), None, 0
    several: dict[str, list[str]] = {}
    folders = [folder.relative_to(root).as_posix() for folder in search_folders(root)]
    for column in cells.columns:
        names = file_names(cells[column], Images(column, ""))
        everywhere = {name: paths for name in names if (paths := index.find(name))}
        for folder in folders:
            files = {name: _below(folder, name, paths) for name, paths in everywhere.items()}
            paths = [files[name][0] for name in names if len(files.get(name, ())) == 1]
            count, clashes = len(set(paths)), {n: many for n, many in files.items() if many[1:]}
            if count < len(paths) and max(map(len, everywhere.values())) > 1:
                continue  # a folder with one of the files does not tell which one a row means
            if count > most or (not most and len(clashes) > len(several)):
                best, most = Images(column, folder, search_subfolders=True), count
                several = clashes
    if several:
        raise _ambiguous(path, cells, root, several)
    return (best if most else None), most


def _below(folder: str, name: str, paths: Sequence[str]) -> list[str]:
    """Return those paths of files of a name that are below a folder; only the nearest, if any."""
    direct = posixpath.normpath(f"{folder}/{name}")
    if direct in paths:
        return [direct]
    return [path for path in paths if folder == "." or path.startswith(f"{folder}/")]


def _ambiguous(
    path: Path, cells: pd.DataFrame, root: Path, several: Mapping[str, Sequence[str]]
) -> DataError:
    """Return the error for names that are those of several files, with the way out."""
    name, files = next(iter(several.items()))
    message = f"{len(several):,} of {len(cells):,} names are those of several files: "
    message += f"{name!r} of {files[0]} and {files[1]}"
    hint = f"write the folder in the cells, as in {files[0]}"
    labels = {cell.strip().casefold() for column in cells for cell in cells[column].unique()}
    folders = {posixpath.dirname(file) for paths in several.values() for file in paths}
    if all(posixpath.basename(folder).casefold() in labels for folder in folders):
        above = posixpath.commonpath(folders)
        hint += f"; or read the classes from the folders: sightx init {shell_path(root / above)}"
    return DataError(Problem("ambiguous-image", message, hint, file=str(path)))


def _find_in_one_folder(path: Path, cells: pd.DataFrame, root: Path) -> Images | None:
    """Return the column that names image files, and their folder, which is below `root`.

    Folders next to and below the CSV file come first.
    """
    best, most = None, 0
    for folder in dict.fromkeys([*search_folders(path.parent), *search_folders(root)]):
        for suffix, column in product(_SUFFIXES, cells.columns):
            head = cells[column].head(SEARCH_ROWS)
            names = file_names(head, Images(column, "", suffix))
            count = sum(_is_file(folder, name) for name in names)
            if count > most:
                images = folder.relative_to(root).as_posix()
                if names[0].startswith("/"):
                    images = _common_folder(root, cells[column])
                best, most = Images(column, images, suffix), count
    return best


def _common_folder(root: Path, cells: pd.Series[str]) -> str:
    """Return the folder that contains all images with absolute paths, relative if in the root."""
    names = [FileNames()(cell) for cell in cells if cell.strip()]
    folders = [posixpath.dirname(name) for name in names if name.startswith("/")]
    common = Path(os.path.commonpath(folders))
    root = Path(os.path.abspath(root))  # noqa: PTH100 - Path.absolute keeps `..`
    return common.relative_to(root).as_posix() if common.is_relative_to(root) else str(common)


def find_near_images(path: Path, cells: pd.DataFrame, root: Path) -> Images:
    """Return the column whose names are those of files after one change of folder or ending.

    Raises DataError if there is none; the error offers a file whose name differs only in form.
    """
    heads = {str(column): cells[column].head(SEARCH_ROWS) for column in cells.columns}
    names = {column: [FileNames()(c) for c in head if c.strip()] for column, head in heads.items()}
    nearest = nearest_files(root, list(dict.fromkeys(chain(*names.values()))))
    nearest = {name: file for name, file in nearest.items() if is_image_name(file)}
    for column, head in names.items():
        near = {name: nearest[name] for name in head if name in nearest}
        if len(near) == len(set(head)) and (change := common_change(near)):
            return Images(column, change.folder or ".", change.suffix, change.strip_prefix)
    row = {str(name): str(cells[name].iat[0]) for name in list(cells.columns)[:4]}
    hint = f"its first row has {', '.join(f'{name} {cell!r}' for name, cell in row.items())}"
    if nearest:
        name, file = next(iter(nearest.items()))
        hint = f"did you mean {file} for {name!r}? {describe_differences(nearest)}"
    message = f"no column names image files at or below {root}"
    raise DataError(Problem("missing-images", message, hint, file=str(path)))


def search_folders(root: Path) -> Iterator[Path]:
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


def unwrap_folder(folder: Path) -> Path:
    """Return the folder itself, or the only folder in it, as archives often contain, and so on."""
    while not csv_files(folder):
        inner = visible_folders(folder)
        is_wrapper = len(inner) == 1 and not split_called(inner[0].name)
        if not is_wrapper or not (visible_folders(inner[0]) or csv_files(inner[0])):
            break
        folder = inner[0]
    return folder


def csv_files(folder: Path) -> list[Path]:
    """Return the tables in a folder, as text, sorted by name."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in (".csv", ".tsv"))
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def _is_file(folder: Path, name: str) -> bool:
    return os.path.isfile(folder / name)  # noqa: PTH113 - Path.is_file raises for long names
