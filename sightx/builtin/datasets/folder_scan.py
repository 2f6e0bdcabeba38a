"""Find the images below a folder, and count everything that is passed over."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple, NoReturn

from sightx.plugin import DataError, Problem, split_called

_SYSTEM_NAMES = {
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found",
    "__pycache__", "thumbs.db", "desktop.ini",
}  # fmt: skip
_DERIVED_FOLDERS = re.compile(
    r"(.*[\s_-])?(masks?|thumb(nail)?s?|segmentations?|segs?|annotations?|overlays?|ground_?truth"
    r"|gts?|heat_?maps?|previews?|augmented|cache|backup|trash)",
    re.IGNORECASE,
)
_ALL_IMAGES = re.compile(r"(all|images?|imgs?|pictures|photos|jpe?gs?|labels?|data)", re.IGNORECASE)
_DERIVED_FILE = re.compile(
    r"(.+?)[\s_-]*[_-](mask|thumb|thumbnail|segmentation|seg|gt|overlay|preview)([_-]?\d+)?",
    re.IGNORECASE,
)


class _Listing(NamedTuple):
    """The visible folders and images directly in a folder, sorted by name."""

    folders: list[str]
    images: list[str]


class FolderScan:
    """Look into the folders below a root; each is listed once.

    Hidden entries, those that operating systems write, and those that a pattern of `ignore`
    matches, by name or by path below the root, are passed over.
    """

    def __init__(self, root: Path, ignore: Sequence[str], *, follow_links: bool) -> None:
        from sightx.plugin import Faults, Surveyor

        self.root = root
        self.surveyor, self.faults = Surveyor(), Faults()
        self._ignore, self._follow_links = ignore, follow_links
        self._listings: dict[Path, _Listing] = {}
        self._images: dict[Path, list[str]] = {}
        self._doubtful: dict[str, list[str]] = {}  # examples by the sort of doubt

    def folders(self, folder: Path) -> list[str]:
        """Return the names of the folders directly in a folder."""
        return self._list(folder).folders

    def loose_images(self, folder: Path) -> list[str]:
        """Return the names of the images directly in a folder."""
        return self._list(folder).images

    def images(self, folder: Path) -> list[str]:
        """Return the images below the folder of a class, relative to the root.

        They are ordered by their folder and by their name. A link to a folder, if links are not
        followed, and a name that is not UTF-8 are faults.
        """
        if folder not in self._images:
            parents = sorted(self._walk(folder), key=str)
            for parent in parents:
                self._look_at_names(folder, parent)
            self._images[folder] = [
                (parent / name).relative_to(self.root).as_posix()
                for parent in parents
                for name in self._list(parent).images
                if _is_utf8(name)
            ]
        return self._images[folder]

    def report_doubts(self) -> None:
        """Add the doubts about everything that was listed to the survey."""
        for sort, examples in sorted(self._doubtful.items()):
            count, example = len(examples), examples[0]
            them = "it" if count == 1 else "them"
            kind, _, name = sort.partition(" ")
            if kind == "split":
                message = f"{_images_are(count)} in folders of splits inside a class"
                hint = 'layout = "class-split" in [dataset] reads ROOT/CLASS/SPLIT'
            elif kind == "derived":
                verb = "looks" if count == 1 else "look"
                images = "1 image" if count == 1 else f"{count:,} images"
                message = f"{images} {verb} like masks, previews or copies of other images"
                hint = f'ignore = ["{name}"] in [dataset] leaves {them} out'
            else:
                message = f"{_images_are(count)} of the format {name}, which is not supported"
                hint = f"convert {them} to JPEG or PNG"
            self.surveyor.doubt(f"{message}, such as {example}", hint)

    def _list(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                _fail(folder, "unreadable", f"cannot be read: {error.strerror}", "check the folder")
            visible = [entry for entry in entries if self._is_visible(entry.path, entry.name)]
            paths = [folder / entry.name for entry in visible if _is_folder(entry)]
            files = [folder / entry.name for entry in visible if not _is_folder(entry)]
            folders = [path.name for path in paths if not self._is_circular(path)]
            images = [file.name for file in files if self._is_image(file)]
            self._listings[folder] = _Listing(folders, images)
        return self._listings[folder]

    def _is_circular(self, folder: Path) -> bool:
        """Return whether a folder is a link to one that contains it, and count it."""
        if not folder.is_symlink():
            return False
        target, parent = Path(os.path.realpath(folder)), Path(os.path.realpath(folder.parent))
        if is_circular := parent.is_relative_to(target):
            what = "link to a folder that contains it", "links to folders that contain them"
            self.surveyor.note(*what, self._relative(folder))
        return is_circular

    def _is_visible(self, path: str, name: str) -> bool:
        example = self._relative(Path(path))
        if name.startswith("."):
            self.surveyor.note("hidden file or folder", "hidden files and folders", example)
        elif name.casefold() in _SYSTEM_NAMES:
            of = "that operating systems write"
            self.surveyor.note(f"file or folder {of}", f"files and folders {of}", example)
        elif any(fnmatch(name, pattern) or fnmatch(example, pattern) for pattern in self._ignore):
            of = "that dataset.ignore names"
            self.surveyor.note(f"file or folder {of}", f"files and folders {of}", example)
        else:
            return True
        return False

    def _is_image(self, file: Path) -> bool:
        """Return whether a file is an image by its ending, or else by its first bytes.

        One with the ending of an image that is not one is a bad image, which a run reports.
        """
        from sightx.plugin import is_image_name, read_format

        if is_image_name(file.name):
            return True
        image_format = read_format(file) if file.is_file() else None  # a pipe would wait
        if image_format and image_format.is_supported:
            return True
        if image_format:
            key = f"format {image_format.name}"
            self._doubtful.setdefault(key, []).append(self._relative(file))
        else:
            ending = file.suffix.lower() or "no ending"
            one, more = "file that is not an image", "files that are not images"
            self.surveyor.note(f"{one} ({ending})", f"{more} ({ending})", self._relative(file))
        return False

    def _walk(self, folder: Path) -> Iterator[Path]:
        """Yield a folder and all folders below it."""
        remaining, seen = [folder] if folder.is_dir() else [], set[str]()
        while remaining:
            parent = remaining.pop()
            if self._follow_links:  # links may form a circle
                real = os.path.realpath(parent)
                if real in seen:
                    continue
                seen.add(real)
            yield parent
            for name in self._list(parent).folders:
                if not self._follow_links and (parent / name).is_symlink():
                    hint = "follow_links = true in [dataset] follows it; or move the images there"
                    message = f"{name!r} is a link to a folder"
                    self.faults.add(Problem("linked-folder", message, hint, file=str(parent)), 0)
                    continue
                remaining.append(parent / name)

    def _look_at_names(self, folder: Path, parent: Path) -> None:
        """Find names that are not UTF-8, and images that may not be samples of the class."""
        names = self._list(parent).images
        for name in names:
            if not _is_utf8(name):
                message = f"the name {name!r} is not UTF-8"
                self.faults.add(Problem("path-invalid", message, "rename it", file=str(parent)))
        parts = parent.relative_to(folder).parts
        split = next(filter(split_called, parts), "")
        derived = next(filter(_DERIVED_FOLDERS.fullmatch, parts), "")
        stems = {Path(name).stem for name in names}
        for name in names:
            path = self._relative(parent / name)
            match = _DERIVED_FILE.fullmatch(Path(name).stem)
            if derived:
                self._doubtful.setdefault(f"derived {derived}", []).append(path)
            elif split:
                self._doubtful.setdefault("split", []).append(path)
            elif match and match[1] in stems:
                pattern = f"*_{match[2]}*" if f"_{match[2]}" in name else f"*-{match[2]}*"
                self._doubtful.setdefault(f"derived {pattern}", []).append(path)
            elif parts:
                one = "image in a folder below that of a class, for which it counts"
                more = "images in folders below that of a class, for which they count"
                self.surveyor.note(one, more, path, is_used=True)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _images_are(count: int) -> str:
    return "1 image is" if count == 1 else f"{count:,} images are"


def is_unlike_a_class(name: str) -> bool:
    """Return whether a folder is called like one of all images, or of masks, not of a class."""
    return bool(_DERIVED_FOLDERS.fullmatch(name) or _ALL_IMAGES.fullmatch(name))


def _fail(folder: Path, code: str, message: str, hint: str) -> NoReturn:
    raise DataError(Problem(code, message, hint, file=str(folder)))
