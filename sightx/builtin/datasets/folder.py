"""A dataset with one folder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from sightx.builtin.datasets.csv import Classes
from sightx.builtin.datasets.folder_scan import FolderScan, is_unlike_a_class
from sightx.plugin import (
    SPLITS,
    DataError,
    Dataset,
    Place,
    Problem,
    Traits,
    did_you_mean,
    shell_path,
    split_called,
)

if TYPE_CHECKING:
    from sightx.plugin import ImageTable


_FLAT_HINT = 'set dataset.layout = "flat" if the root contains the classes'
_Images = Mapping[str, Sequence[str]]  # the images of each folder of a class


class ImageFolder(Dataset):
    """Read a folder per class, in a folder per split or directly in the root.

    With the layout `split` the root contains the folders train, validation and test, or their usual
    names in upper or lower case, each with one folder per class; with `class-split` it contains the
    folders of the classes, each with one folder per split; with `flat` it contains the folders of
    the classes. Images in deeper folders count for their class. Files are images by their first
    bytes.
    """

    name = "image-folder"
    other_names = (
        "DatasetFolder", "directory", "dir", "image_dataset_from_directory", "flow_from_directory",
        "from_folder",
    )  # fmt: skip

    root: Place
    """The folder that contains the splits, or the classes."""
    layout: Literal["split", "flat", "class-split"] = "split"
    """ROOT/SPLIT/CLASS, ROOT/CLASS without splits, or ROOT/CLASS/SPLIT."""
    classes: Classes | None = None
    """The classes in their order; by default all folders, sorted by name or number."""
    others: Literal["fail", "drop"] = "fail"
    """What to do with folders that `classes` does not name, or that contain no images."""
    ignore: tuple[str, ...] = ()
    """Names of files and folders that are left out, such as `masks` or `*_mask.png`."""
    follow_links: bool = False
    """Whether links may lead out of the root."""
    ordered: bool = False
    """Whether the classes are grades. Needs `classes`, unless they are numbers."""
    handed: bool = False
    """Whether classes distinguish left from right, so that a mirror image has another label."""

    def traits(self) -> Traits:
        """Return what follows from the settings."""
        return Traits(
            self.classes, self.ordered, has_split=self.layout != "flat", handed=self.handed
        )

    def table(self) -> ImageTable:
        """Return one row per image file, ordered by split, class and name."""
        import pandas as pd

        from sightx.plugin import ImageTable, file_reader, require_folder

        root = require_folder(self.root, "dataset.root")
        scan = FolderScan(root, self.ignore, follow_links=self.follow_links)
        folders: Mapping[str, Path]
        if self.layout == "class-split":
            images = _images_of_splits_in_classes(scan)
            folders = dict.fromkeys(images, root)
        else:
            folders = _folders_with_train(scan) if self.layout == "split" else {"": root}
            images = {
                split: {name: scan.images(folder / name) for name in scan.folders(folder)}
                for split, folder in folders.items()
            }
        classes = self._classes(scan, folders, images)
        rows = [
            (file, label, split)
            for split, folder in folders.items()
            for label, files in enumerate(
                self._by_class(scan, folder, classes, images[split], split)
            )
            for file in files
        ]
        self._finish_survey(scan, list(folders.values()), classes)
        frame = pd.DataFrame(rows, columns=["path", "label", "split"]).assign(group="")
        if self.layout == "flat":
            frame = frame.drop(columns="split")
        paths = [file for file, _, _ in rows]
        reader = file_reader(root, paths, follow_links=self.follow_links)
        survey = scan.surveyor.survey()
        table = ImageTable(frame, classes, reader, self.ordered, str(root), root, survey)
        return scan.faults.refuse(table)

    def _classes(
        self, scan: FolderScan, folders: Mapping[str, Path], images: Mapping[str, _Images]
    ) -> tuple[str, ...]:
        """Return the classes: the first folder must have all of them, the others no more."""
        from sightx.plugin import class_positions, find_classes, require_order

        first, *_ = folders
        counts = Counter[str]()
        for split in folders:
            counts.update({name: len(files) for name, files in images[split].items()})
        names = list(self.classes or images[first])
        if self.others == "drop" and not self.classes:
            names = [name for name in names if images[first][name]]
        known = class_positions(counts, names)
        if self.others == "drop":
            counts = Counter({name: counts[name] for name in known})
        # Spellings are compared in all splits; a class that the first one lacks is reported below.
        classes = self.classes or tuple(
            class_positions(find_classes(counts, str(folders[first])), names)
        )
        for split, folder in folders.items():
            for name in sorted(images[split].keys() - known.keys()):
                self._pass_over(scan, folder / name, images[split][name], names, folders[first])
        if len(classes) < 2:
            message = f"folders of classes: {', '.join(classes) or 'none'}"
            hint = _hint_without_classes(scan, folders[first])
            scan.faults.add(Problem("no-classes", message, hint, file=str(folders[first])), 0)
            scan.faults.refuse(None)
        if self.ordered and not self.classes:
            require_order(classes)
        return classes

    def _pass_over(
        self, scan: FolderScan, folder: Path, images: Sequence[str], names: list[str], first: Path
    ) -> None:
        """Count a folder that is not a class. Raises DataError if there may be none."""
        same = [name for name in names if name.casefold() == folder.name.casefold()]
        if self.others == "fail" or same:
            where = "dataset.classes" if self.classes else str(first)
            count = f"{len(images):,} image{'' if len(images) == 1 else 's'}"
            message = f"the class {folder.name!r} is not in {where} ({count})"
            add = "add it there" if self.classes else "add it to the training split"
            hint = did_you_mean(folder.name, names)
            hint = hint or f'{add}, or leave it out with others = "drop"'
            scan.faults.add(
                Problem("class-unknown", message, hint, file=str(folder.parent)), len(images)
            )
        elif images:
            of = f"of {folder.name!r}, which is not a class"
            scan.surveyor.note(f"image {of}", f"images {of}", images[0], count=len(images))
        else:
            example = folder.relative_to(scan.root).as_posix()
            scan.surveyor.note("folder without images", "folders without images", example)

    def _by_class(
        self,
        scan: FolderScan,
        folder: Path,
        classes: Sequence[str],
        images: _Images,
        split: str,
    ) -> list[list[str]]:
        """Return the images of each class, which may have several folders: `1` and `01`."""
        from sightx.plugin import class_positions

        files: list[list[str]] = [[] for _ in classes]
        for name, position in class_positions(images, classes).items():
            files[position] += images[name]
        for label, name in enumerate(classes):
            if not files[label] and split in ("train", ""):
                others = sum(file.is_file() for file in (folder / name).rglob("*"))
                message = "a class without images"
                if others:
                    message += f"; {others} other file{'' if others == 1 else 's'}"
                hint = 'add some, or leave it out: others = "drop"'
                if self.classes:
                    hint = "add some, or remove it from dataset.classes"
                elif is_unlike_a_class(name):
                    hint = "is dataset.root the folder of the classes, or of their splits?"
                problem = Problem("empty-class", message, hint, file=str(folder / name))
                scan.faults.add(problem, 0)
        return files

    def _finish_survey(
        self, scan: FolderScan, folders: Sequence[Path], classes: Sequence[str]
    ) -> None:
        """Add what lies outside of the folders of classes, and doubts about names."""
        for folder in dict.fromkeys([scan.root, *folders]):
            if loose := scan.loose_images(folder):
                example = (folder / loose[0]).relative_to(scan.root).as_posix()
                of = "outside of the folders of classes"
                scan.surveyor.note(f"image {of}", f"images {of}", example, count=len(loose))
        root_hint = "is dataset.root too high, or too low?"
        split_hint = 'layout = "split" in [dataset] if they are splits'
        for is_doubtful, what, hint in (
            (split_called, "a split", split_hint if self.layout == "flat" else root_hint),
            (is_unlike_a_class, "a folder of all images, or of masks", root_hint),
        ):
            if names := list(filter(is_doubtful, classes)):
                text = f"{'classes' if len(names) > 1 else 'class'} {_join(names)}"
                verb = "are" if len(names) > 1 else "is"
                scan.surveyor.doubt(f"the {text} {verb} called like {what}", hint)
        scan.report_doubts()


def _join(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names[:4]))


def _folders_with_train(scan: FolderScan) -> Mapping[str, Path]:
    """Return the folder of each split in the root; the training split must be there."""
    folders = _split_folders(scan, scan.root)
    if "train" not in folders:
        names = scan.folders(scan.root)
        contents = ", ".join(names[:8]) or "no folder"
        message = f"no folder `train`; the root contains {contents}"
        _fail(scan.root, "no-split", message, _hint_without_train(scan, names))
    return folders


def _images_of_splits_in_classes(scan: FolderScan) -> dict[str, dict[str, list[str]]]:
    """Return the images of each class in each split, from the layout ROOT/CLASS/SPLIT."""
    folders = {name: _split_folders(scan, scan.root / name) for name in scan.folders(scan.root)}
    splits = [split for split in SPLITS if any(split in inner for inner in folders.values())]
    if "train" not in splits:
        hint = 'layout = "flat" or "split" in [dataset]'
        _fail(scan.root, "no-split", "no class has a folder `train`", hint)
    for name in folders:
        if loose := scan.loose_images(scan.root / name):
            of = "outside of the folders of splits"
            scan.surveyor.note(
                f"image {of}", f"images {of}", f"{name}/{loose[0]}", count=len(loose)
            )
    return {
        split: {
            name: scan.images(inner[split]) if split in inner else []
            for name, inner in folders.items()
        }
        for split in splits
    }


def _split_folders(scan: FolderScan, parent: Path) -> dict[str, Path]:
    """Return the folder of each split in a folder, in their order; count the other folders."""
    names: dict[str, list[str]] = {}
    for name in scan.folders(parent):
        names.setdefault(split_called(name), []).append(name)
    for split in SPLITS:
        if len(existing := names.get(split, [])) > 1:
            message = f"{' and '.join(existing)} are folders of one split, {split}"
            hint = "move one away; `eval` means validation, not test"
            _fail(parent, "two-folders", message, hint)
    for name in names.pop("", []) if names.keys() & set(SPLITS) else ():
        example = (parent / name).relative_to(scan.root).as_posix()
        of = "not called like a split"
        scan.surveyor.note(f"folder that is {of}", f"folders that are {of}", example)
    return {
        split: _unwrapped(scan, parent / names[split][0], split)
        for split in SPLITS
        if split in names
    }


def _unwrapped(scan: FolderScan, folder: Path, split: str) -> Path:
    """Return the folder of a split, or the only folder in it if that means the split again."""
    inner = scan.folders(folder)
    if len(inner) == 1 and split_called(inner[0]) == split and not scan.loose_images(folder):
        return folder / inner[0]
    return folder


def _hint_without_train(scan: FolderScan, names: Sequence[str]) -> str:
    inside = [
        name
        for name in names
        if any(split_called(inner) == "train" for inner in scan.folders(scan.root / name))
    ]
    if len(inside) > 1:
        return 'layout = "class-split" in [dataset] if the root contains the classes'
    if inside:
        return f"{inside[0]} contains one: --set dataset.root={shell_path(scan.root / inside[0])}"
    if all(map(split_called, names)) or any(
        split_called(name) and len(scan.folders(scan.root / name)) > 1 for name in names
    ):
        return "name the folder of the training split `train`"
    return _FLAT_HINT


def _hint_without_classes(scan: FolderScan, folder: Path) -> str:
    for name in scan.folders(folder):
        if len(scan.folders(folder / name)) > 1:
            return f"{name} contains several: --set dataset.root={shell_path(folder / name)}"
    if scan.loose_images(folder):
        if folder != scan.root and not all(map(split_called, scan.folders(scan.root))):
            return _FLAT_HINT
        there = 'or if there is one set dataset.use = "csv"'
        return f"write a CSV file with the name and the class of each image, {there}"
    return "a classifier needs a folder for each of two classes or more"


def _fail(folder: Path, code: str, message: str, hint: str) -> NoReturn:
    raise DataError(Problem(code, message, hint, file=str(folder)))
