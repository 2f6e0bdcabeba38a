"""A dataset that is a tree of folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from sightx.builtin.datasets.csv import Classes
from sightx.plugin import DataError, Dataset, Place, Problem, Traits, did_you_mean

if TYPE_CHECKING:
    from sightx.plugin import ImageTable

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
_SIDES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


class ImageFolder(Dataset):
    """Read a folder for each class, below a folder for each side or directly.

    With the layout `split` the root holds train, val (or valid, validation) and test, each with a
    folder a class; with `flat` it holds the folders of the classes. What is hidden is passed over.
    """

    name = "image-folder"

    root: Place
    """The folder that holds the sides, or the classes."""
    layout: Literal["split", "flat"] = "split"
    """Whether the root holds folders of sides, or of classes."""
    classes: Classes | None = None
    """The classes in their order; left out, all folders, sorted by name."""
    ordered: bool = False
    """Whether the classes are grades."""
    handed: bool = False
    """Whether the classes tell left from right, so that a mirror image has another label."""

    def traits(self) -> Traits:
        """Return what the settings say."""
        return Traits(
            self.classes, self.ordered, has_split=self.layout == "split", handed=self.handed
        )

    def table(self) -> ImageTable:
        """Return a row for each image file, sides and classes in order, files sorted."""
        import pandas as pd

        from sightx.plugin import ImageTable, file_reader, require_folder

        root = require_folder(self.root, "dataset.root")
        sides = _side_folders(root) if self.layout == "split" else {"": root}
        classes = self._classes(list(sides.values()))
        rows = [
            (file, label, side)
            for side, folder in sides.items()
            for label, name in enumerate(classes)
            for file in _images(root, folder / name, required=side in ("train", ""))
        ]
        frame = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
        if self.layout == "flat":
            frame = frame.drop(columns="split")
        reader = file_reader(root, [file for file, _, _ in rows])
        return ImageTable(frame, classes, reader, self.ordered, str(root), root)

    def _classes(self, folders: Sequence[Path]) -> tuple[str, ...]:
        """Return the classes, which the first folder has all and no other one exceeds."""
        first, *others = folders
        classes = self.classes or tuple(_folders(first))
        if len(classes) < 2:
            hint = "a classifier needs a folder for each of two classes or more"
            _fail(first, "no-classes", f"folders of classes: {', '.join(classes) or 'none'}", hint)
        for folder in (first, *others):
            for name in _folders(folder):
                if name not in classes:
                    where = "dataset.classes" if self.classes else str(first)
                    hint = did_you_mean(name, classes) or "add it there, or move the folder away"
                    _fail(folder, "class-unknown", f"the class {name!r} is not in {where}", hint)
        return classes


def _side_folders(root: Path) -> Mapping[str, Path]:
    """Return the folder of each side."""
    found: dict[str, Path] = {}
    for side, names in _SIDES.items():
        here = [name for name in names if (root / name).is_dir()]
        if len(here) > 1:
            _fail(root, "two-folders", f"{' and '.join(here)} are one side", "move one away")
        if here:
            found[side] = root / here[0]
    if "train" not in found:
        holds = ", ".join(_folders(root)[:8]) or "no folder"
        hint = 'write dataset.layout = "flat" where the root holds the classes'
        _fail(root, "no-split", f"no folder `train`; it holds {holds}", hint)
    return found


def _folders(folder: Path) -> list[str]:
    paths = sorted(folder.iterdir(), key=lambda path: path.name)
    return [path.name for path in paths if path.is_dir() and not path.name.startswith(".")]


def _images(root: Path, folder: Path, *, required: bool) -> list[str]:
    """Return the images below the folder of a class, relative to the root, folder by folder."""
    found, others = [], 0
    for here, folders, files in sorted(_walk(folder)):
        linked = [name for name in folders if Path(here, name).is_symlink()]
        if linked:
            hint = "move the images there, or remove the link"
            _fail(Path(here), "linked-folder", f"{linked[0]!r} is a link to a folder", hint)
        images = sorted(name for name in files if name.lower().endswith(SUFFIXES))
        coded = [name for name in images if name != name.encode(errors="replace").decode()]
        if coded:
            _fail(Path(here), "path-invalid", f"the name {coded[0]!r} is not UTF-8", "rename it")
        others += len(files) - len(images)
        found += [Path(here, name).relative_to(root).as_posix() for name in images]
    if required and not found:
        hint = "add some, or leave out the class"
        message = f"a class without images; {others} other files" if others else "no images"
        _fail(folder, "empty-class", message, hint)
    return found


def _walk(folder: Path) -> list[tuple[str, list[str], list[str]]]:
    """Return every folder that is not hidden, with what is not hidden in it."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.append((here, list(folders), [name for name in files if not name.startswith(".")]))
    return found


def _fail(folder: Path, code: str, message: str, hint: str) -> NoReturn:
    raise DataError(Problem(code, message, hint, file=str(folder)))
