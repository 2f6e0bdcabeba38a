"""A dataset with one folder per class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from sightx.builtin.datasets.csv import Classes
from sightx.plugin import DataError, Dataset, Place, Problem, Traits, did_you_mean

if TYPE_CHECKING:
    from sightx.plugin import ImageTable

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


class ImageFolder(Dataset):
    """Read a folder per class, in a folder per split or directly in the root.

    With the layout `split` the root contains train, val (or valid, validation) and test, each with
    one folder per class; with `flat` it contains the folders of the classes. Hidden files are
    ignored.
    """

    name = "image-folder"

    root: Place
    """The folder that contains the splits, or the classes."""
    layout: Literal["split", "flat"] = "split"
    """Whether the root contains folders of splits or of classes."""
    classes: Classes | None = None
    """The classes in their order; by default all folders, sorted by name or number."""
    ordered: bool = False
    """Whether the classes are grades. Needs `classes`, unless they are numbers."""
    handed: bool = False
    """Whether classes distinguish left from right, so that a mirror image has another label."""

    def traits(self) -> Traits:
        """Return what follows from the settings."""
        return Traits(
            self.classes, self.ordered, has_split=self.layout == "split", handed=self.handed
        )

    def table(self) -> ImageTable:
        """Return one row per image file, ordered by split, class and name."""
        import pandas as pd

        from sightx.plugin import ImageTable, file_reader, require_folder

        root = require_folder(self.root, "dataset.root")
        folders = _split_folders(root) if self.layout == "split" else {"": root}
        images = {
            split: {name: _images(root, folder / name) for name in _folders(folder)}
            for split, folder in folders.items()
        }
        classes = self._classes(folders, images)
        rows = [
            (file, label, split)
            for split, folder in folders.items()
            for label, files in enumerate(_by_class(folder, classes, images[split], split))
            for file in files
        ]
        frame = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
        if self.layout == "flat":
            frame = frame.drop(columns="split")
        reader = file_reader(root, [file for file, _, _ in rows])
        return ImageTable(frame, classes, reader, self.ordered, str(root), root)

    def _classes(
        self, folders: Mapping[str, Path], images: Mapping[str, Mapping[str, _Images]]
    ) -> tuple[str, ...]:
        """Return the classes: the first folder must have all of them, the others no more."""
        from sightx.plugin import class_positions, find_classes, require_order

        first, *_ = folders
        counts = Counter[str]()
        for split in folders:
            counts.update({name: len(found.files) for name, found in images[split].items()})
        classes = self.classes or find_classes(counts, str(folders[first]))
        names = self.classes or list(images[first])
        known = class_positions(counts, names)
        for split, folder in folders.items():
            for name in images[split]:
                if name not in known:
                    where = "dataset.classes" if self.classes else str(folders[first])
                    message = f"the class {name!r} is not in {where} ({_count(counts[name])})"
                    hint = did_you_mean(name, names) or "add it there, or move the folder away"
                    _fail(folder, "class-unknown", message, hint)
        if len(classes) < 2:
            hint = "a classifier needs a folder for each of two classes or more"
            message = f"folders of classes: {', '.join(classes) or 'none'}"
            _fail(folders[first], "no-classes", message, hint)
        if self.ordered and not self.classes:
            require_order(classes)
        return classes


def _split_folders(root: Path) -> Mapping[str, Path]:
    """Return the folder of each split."""
    folders: dict[str, Path] = {}
    for split, names in _SPLIT_FOLDERS.items():
        existing = [name for name in names if (root / name).is_dir()]
        if len(existing) > 1:
            message = f"{' and '.join(existing)} are folders of one split"
            _fail(root, "two-folders", message, "move one away")
        if existing:
            folders[split] = root / existing[0]
    if "train" not in folders:
        contents = ", ".join(_folders(root)[:8]) or "no folder"
        hint = 'set dataset.layout = "flat" if the root contains the classes'
        _fail(root, "no-split", f"no folder `train`; the root contains {contents}", hint)
    return folders


def _folders(folder: Path) -> list[str]:
    paths = sorted(folder.iterdir(), key=lambda path: path.name)
    return [path.name for path in paths if path.is_dir() and not path.name.startswith(".")]


def _by_class(
    folder: Path, classes: Sequence[str], images: Mapping[str, _Images], split: str
) -> list[list[str]]:
    """Return the images of each class, which may have several folders: `1` and `01`."""
    from sightx.plugin import class_positions

    positions = class_positions(images, classes)
    files: list[list[str]] = [[] for _ in classes]
    others = [0 for _ in classes]
    for name, found in images.items():
        files[positions[name]] += found.files
        others[positions[name]] += found.others
    for label, name in enumerate(classes):
        if not files[label] and split in ("train", ""):
            hint, other = "add some, or remove the class", others[label]
            message = f"a class without images; {other} other files" if other else "no images"
            _fail(folder / name, "empty-class", message, hint)
    return files


class _Images(NamedTuple):
    """The images below a folder, relative to the root, and the number of its other files."""

    files: list[str]
    others: int


def _images(root: Path, folder: Path) -> _Images:
    """Return the images below the folder of a class, folder by folder."""
    paths, others = [], 0
    for parent, folders, files in sorted(_walk(folder)):
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        if linked:
            hint = "move the images there, or remove the link"
            _fail(Path(parent), "linked-folder", f"{linked[0]!r} is a link to a folder", hint)
        images = sorted(name for name in files if name.lower().endswith(SUFFIXES))
        undecodable = [name for name in images if name != name.encode(errors="replace").decode()]
        if undecodable:
            message = f"the name {undecodable[0]!r} is not UTF-8"
            _fail(Path(parent), "path-invalid", message, "rename it")
        others += len(files) - len(images)
        paths += [Path(parent, name).relative_to(root).as_posix() for name in images]
    return _Images(paths, others)


def _count(images: int) -> str:
    return f"{images:,} image{'' if images == 1 else 's'}"


def _walk(folder: Path) -> list[tuple[str, list[str], list[str]]]:
    """Return every folder with its folders and files, except hidden ones."""
    visible = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [name for name in files if not name.startswith(".")]
        visible.append((parent, list(folders), images))
    return visible


def _fail(folder: Path, code: str, message: str, hint: str) -> NoReturn:
    raise DataError(Problem(code, message, hint, file=str(folder)))
