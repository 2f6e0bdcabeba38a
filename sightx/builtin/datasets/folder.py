"""A dataset that is a tree of folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sightx import DataError, Dataset, Place, Problem, Traits

if TYPE_CHECKING:
    from sightx import ImageTable

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
_SIDES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


class ImageFolder(Dataset):
    """Read a folder for each class, below a folder for each side or directly.

    With the layout `split` the root holds train, val (or valid, validation) and test, each with a
    folder a class; with `flat` it holds the folders of the classes.
    """

    name = "image-folder"

    root: Place
    """The folder that holds the sides, or the classes."""
    layout: Literal["split", "flat"] = "split"
    """Whether the root holds folders of sides, or of classes."""
    classes: tuple[str, ...] | None = None
    """The classes in their order; left out, all folders, sorted by name."""
    ordered: bool = False
    """Whether the classes are grades."""

    def traits(self) -> Traits:
        """Return what the settings say."""
        return Traits(self.classes, self.ordered, has_split=self.layout == "split")

    def table(self) -> ImageTable:
        """Return a row for each image file, sides and classes in order, files sorted."""
        import pandas as pd

        from sightx import ImageTable, file_reader, labelled_folder

        root = labelled_folder(self.root, "dataset.root")
        sides = self._sides(root) if self.layout == "split" else {"": root}
        classes = self.classes or _class_names(list(sides.values()))
        rows = [
            (file.relative_to(root).as_posix(), label, side)
            for side, folder in sides.items()
            for label, name in enumerate(classes)
            for file in _images(folder / name)
        ]
        paths = [path for path, _, _ in rows]
        frame = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
        if self.layout == "flat":
            frame = frame.drop(columns="split")
        reader = file_reader(root, paths)
        return ImageTable(frame, classes, reader, self.ordered, str(root), root)

    def _sides(self, root: Path) -> dict[str, Path]:
        found = {
            side: root / name
            for side, names in _SIDES.items()
            for name in names
            if (root / name).is_dir()
        }
        if "train" not in found:
            hint = 'write layout = "flat" where the root holds the classes'
            raise DataError(Problem("no-split", "no folder `train`", hint, file=str(root)))
        return found


def _class_names(folders: list[Path]) -> tuple[str, ...]:
    """Return the classes of all sides; a side may lack one, but the first must have them all."""
    names = sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})
    if len(names) < 2:
        hint = "a classifier needs a folder for each of two classes or more"
        found = f"folders of classes: {', '.join(names) or 'none'}"
        raise DataError(Problem("no-classes", found, hint, file=str(folders[0])))
    return tuple(names)


def _images(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
