"""The image files that a user names: files, folders, patterns and lists in CSV files."""

from __future__ import annotations

import glob
import os
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sightx.data.decode.formats import is_image_name, read_format
from sightx.errors import DataError, Problem
from sightx.io.files import natural_key, user_path


class ImageFiles(NamedTuple):
    """The images that one argument stands for, and what it does not use.

    Attributes:
        paths: The images, in the order of their names; `a9.png` before `a10.png`.
        unused: Files of folders that are not images.
    """

    paths: list[Path]
    unused: list[Path]


def images_of(argument: str | Path) -> ImageFiles:
    """Return the images that a path or a pattern stands for.

    A file is taken as it is, but a CSV file is a list: `list_images` reads it. Of a folder all
    images in it and in the folders below it are taken, by the ending of their name or by their
    first bytes; hidden files and folders are passed over. What does not exist and has `*`, `?` or
    `[` is a pattern, in which `**` matches any folders.

    Raises DataError for a pattern that matches nothing and a folder without images. A path that
    does not exist is returned: reading it says what is wrong.
    """
    path = user_path(argument)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises without permission
        return _in_folder(path)
    if path.suffix.lower() == ".csv":
        from sightx.init.find_images import list_images  # it imports pandas

        return ImageFiles(list_images(path), [])
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return ImageFiles([path], [])
    matches = sorted(glob.glob(str(path), recursive=True), key=natural_key)  # noqa: PTH207
    files = [match for match in matches if not os.path.isdir(match)]  # noqa: PTH112
    if not matches:
        hint = "check the pattern, and quote it, so that the shell does not expand it"
        raise DataError(Problem("no-images", "no file matches", hint, file=str(path)))
    if files:  # folders are there because `**` matches them too
        return ImageFiles([Path(file) for file in files], [])
    folders = [_in_folder(Path(match)) for match in matches]
    paths = chain.from_iterable(folder.paths for folder in folders)
    return ImageFiles([*paths], [*chain.from_iterable(folder.unused for folder in folders)])


def _in_folder(folder: Path) -> ImageFiles:
    paths, unused = list[Path](), list[Path]()
    for parent, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent) / name
            if name.startswith("."):
                continue
            is_image = is_image_name(name) or read_format(file) is not None
            (paths if is_image else unused).append(file)
    if not paths:
        hint = "give a folder with images, or their files"
        raise DataError(Problem("no-images", "the folder has no images", hint, file=str(folder)))
    for files in (paths, unused):
        files.sort(key=lambda file: [natural_key(part) for part in file.parts])
    return ImageFiles(paths, unused)


def _fail(error: OSError) -> None:
    message = f"cannot be read: {error.strerror}"
    raise DataError(Problem("no-images", message, "check the folder", file=str(error.filename)))
