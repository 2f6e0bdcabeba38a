"""Guess what the columns of a file of labels mean, by its cells and the files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sightx.data.csv_labels import read_csv
from sightx.errors import DataError, Problem

_SUFFIXES = (
    "", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm",
    ".JPG", ".JPEG", ".PNG",
)  # fmt: skip
_LABELS = (
    "label", "labels", "class", "level", "grade", "diagnosis", "target", "category", "severity",
)  # fmt: skip
_GROUPS = (
    "group", "group_id", "patient", "patient_id", "patientid", "subject", "subject_id", "case",
    "case_id", "person", "participant", "animal", "animal_id",
)  # fmt: skip
_SPLITS = ("split", "set", "subset", "side", "partition")
_SIDES = {"train", "training", "validation", "val", "valid", "test", "testing", ""}
_GRADED = ("level", "grade", "severity", "stage", "score", "rating")
_SCALES = (
    ("none", "mild", "moderate", "severe", "proliferative"),
    ("normal", "mild", "moderate", "severe"),
    ("low", "medium", "high"),
)
_FOLDERS = 200  # folders beside the file that may hold its images
_ROWS = 5


@dataclass(frozen=True)
class Columns:
    """Say what `dataset.use = "csv"` needs to know, in its words; "" where there is none."""

    images: str
    image: str
    suffix: str
    label: str
    group: str
    split: str
    eyepacs: bool


class Scale(NamedTuple):
    """Give classes in their order where they look like grades, and what to say of it."""

    classes: tuple[str, ...] = ()
    reason: str = ""


def infer_columns(path: Path) -> Columns:
    """Return what the columns of a CSV file mean. Raises DataError where that cannot be told."""
    cells = read_csv(path, [])
    if not len(cells):
        raise DataError(Problem("no-samples", "there are no rows", "it needs some", file=str(path)))
    image, images, suffix = _image(path, cells)
    group = _called(cells, _GROUPS)
    split = _called(cells, _SPLITS)
    if split and not {cell.strip().lower() for cell in cells[split]} <= _SIDES:
        split = ""
    label = _label(path, cells.drop(columns=list({image, group, split} - {""})))
    eyepacs = (image, label, suffix) == ("image", "level", ".jpeg") and bool(
        cells[image].str.endswith(("_left", "_right")).all() and cells[label].isin([*"01234"]).all()
    )
    return Columns(images, image, suffix, label, group, split, eyepacs)


def infer_scale(classes: Sequence[str], label: str) -> Scale:
    """Return the order of classes that look like grades, and the reason."""
    words = [name.strip().lower() for name in classes]
    for known in _SCALES:
        if len(words) > 2 and set(words) <= set(known):
            ranked = sorted(classes, key=lambda name: known.index(name.strip().lower()))
            return Scale(tuple(ranked), "The names are a scale, so these are grades: see qwk.")
    if not all(word.isdecimal() and word.isascii() for word in words) or len(words) < 3:
        return Scale()
    ranked = sorted(classes, key=int)
    first = int(ranked[0])
    if first > 1 or [int(name) for name in ranked] != list(range(first, first + len(ranked))):
        return Scale()
    span = f"{ranked[0]} to {ranked[-1]}"
    if label.lower() in _GRADED:
        return Scale(
            tuple(ranked),
            f"Whole numbers from {span} in a column called {label!r} look like grades: neighbours "
            "are alike, and qwk measures by how much a decision is off. If they are mere names, "
            'say ordered = false and monitor = "validation/balanced-accuracy".',
        )
    return Scale(
        (),
        f"The classes are numbers from {span}. If they are grades, say ordered = true"
        ' and monitor = "validation/qwk".',
    )


def _image(path: Path, cells: pd.DataFrame) -> tuple[str, str, str]:
    """Return the column that names files, their folder below the file's, and what ends them."""
    best, most = ("", "", ""), 0
    for folder in _folders(path.parent):
        for suffix, column in product(_SUFFIXES, cells.columns):
            names = [name + suffix for name in cells[column].head(_ROWS) if name.strip()]
            hits = sum(_is_file(folder, name) for name in names)
            if hits > most:
                home = folder.relative_to(path.parent).as_posix()
                best, most = (column, home, suffix), hits
    if most:
        return best
    first = ", ".join(f"{name} {cells[name].iat[0]!r}" for name in list(cells.columns)[:4])
    message = f"no column names image files at or below {path.parent}"
    problem = Problem("missing-images", message, f"its first row has {first}", file=str(path))
    raise DataError(problem)


def _folders(root: Path) -> Iterator[Path]:
    """Yield a folder, those in it, and those in these."""
    level, left = [root], _FOLDERS
    for _ in range(3):
        yield from level[:left]
        left = max(0, left - len(level))
        level = [inner for folder in level for inner in sorted(folder.iterdir())
                 if inner.is_dir() and not inner.name.startswith(".")]  # fmt: skip


def _is_file(folder: Path, name: str) -> bool:
    return os.path.isfile(folder / name)  # noqa: PTH113 - Path.is_file raises for long names


def _called(cells: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the first column with one of these names."""
    return next((str(name) for name in cells if str(name).strip().lower() in names), "")


def _label(path: Path, cells: pd.DataFrame) -> str:
    """Return the column of the class: by its name, or the only one that could be."""
    if named := _called(cells, _LABELS):
        return named
    several = [str(name) for name in cells if 1 < cells[name].nunique() <= max(2, len(cells) // 2)]
    if len(several) == 1:
        return several[0]
    known = ", ".join(map(str, cells.columns)) or "none is left"
    problem = Problem("no-label", f"no column is surely the class: {known}", "call it `label`")
    raise DataError(problem.at(str(path), 1))
