"""Check a table that `sightx init` has read: missing images, and classes that are too small."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sightx.data.cache.file_hashes import stat_files
from sightx.data.near_names import describe_differences, nearest_files
from sightx.errors import Problem, counted, did_you_mean
from sightx.records.faults import Faults
from sightx.records.pixels import Positions
from sightx.records.table import ImageTable

_MUCH_LARGER = 5  # times as many samples as a class that may be a misspelling


def check_missing_images(table: ImageTable, root: Path, faults: Faults) -> list[str]:
    """Return a remark on rows whose files are missing, if there are any.

    They are a fault if they are all of a class, or most of the table, or not the only fault.
    """
    missing = sorted(stat_files(table).errors)
    if not missing:
        return []
    lost = np.bincount(table.labels[missing], minlength=len(table.classes))
    classes = zip(table.classes, lost.tolist(), table.counts(), strict=True)
    counts = [f"{lost} of {count} of {name!r}" for name, lost, count in classes if lost]
    paths = [str(table.frame["path"].iat[row]) for row in missing]
    message = f"{len(missing):,} of {len(table):,} rows name files that do not exist, such as "
    message += f"{paths[0]}: {', '.join(counts[:8])}"
    is_lost = (lost > 0) & (lost == table.counts())  # data to score may have empty classes
    are_few = len(missing) <= len(table) / 2 and not is_lost.any()
    if are_few and not faults:
        hint = "A run stops and lists them in the form that dataset.exclude takes."
        return [f"Warning: {message}. Are all images in {table.root}? {hint}"]
    hint = f"complete the images in {table.root}, or delete those rows"
    if near := nearest_files(root, paths):
        hint = f"did you mean {next(iter(near.values()))}? {describe_differences(near)}"
    problem = Problem("missing-images", message, hint).at(*table.place(missing[0]))
    faults.add(problem, len(missing))
    return []


def class_sizes(table: ImageTable, rows: Positions) -> list[int]:
    """Return the number of samples of each class in some rows, or of groups if there are any."""
    members = set(zip(table.labels[rows].tolist(), table.groups[rows].tolist(), strict=True))
    sizes = Counter(label for label, _ in members)
    return [sizes[label] for label in range(len(table.classes))]


def check_class_sizes(table: ImageTable, rows: Positions, faults: Faults) -> None:
    """Add the classes that are too small for a training and a validation split to the faults."""
    counts = table.counts(rows)
    for label, (name, size) in enumerate(zip(table.classes, class_sizes(table, rows), strict=True)):
        if size > 1:
            continue
        groups = f" in {counted(size, 'group')}" if counts[label] > size else ""
        message = f"class {name!r} has {counted(counts[label], 'sample')}{groups}"
        message += ", too few for training and validation"
        near = _larger_class(name, dict(zip(table.classes, counts, strict=True)))
        hint = f"{near}add some, or remove the class"
        members = np.flatnonzero(table.labels == label)
        place = table.place(int(members[0])) if len(members) else (table.source, 0)
        faults.add(Problem("rare-class", message, hint).at(*place), counts[label])


def _larger_class(name: str, counts: Mapping[str, int]) -> str:
    """Return a hint with a much larger class that a small one may be a misspelling of, or ""."""
    least = _MUCH_LARGER * counts[name]
    larger = [other for other, count in counts.items() if count >= max(least, 1)]
    larger = [other for other in larger if _without_digits(other) != _without_digits(name)]
    for other in larger:
        if did_you_mean(name, larger) == (hint := did_you_mean(other, [other])):
            return f"{hint.removesuffix('?')} ({counts[other]:,})? if not, "
    return ""


def _without_digits(name: str) -> str:
    """Return what stage 1 and stage 2 have in common: neither is a misspelling of the other."""
    return re.sub(r"[0-9]+", "", name)
