"""The data of a run: a table, its sides, and prepared pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sightx.data.labels import read_csv
from sightx.data.pixels import Prepared, Progress, fill, missing
from sightx.data.rows import Rows
from sightx.data.table import SPLITS, ImageTable
from sightx.errors import DataError, Problem
from sightx.registry.kinds import Dataset, Prepare, Split

Sides = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Samples:
    """Hold everything that training and evaluation read.

    `rows` follow the table; `sides` maps train, validation and test to positions in it; `id` is
    the hash of the content of all images and their labels.
    """

    table: ImageTable
    rows: Rows
    sides: Sides
    id: str

    def counts(self, side: str) -> list[int]:
        """Return the number of samples of each class on a side."""
        return self.table.counts(self.sides[side])


def open_table(dataset: Dataset, split: Split) -> ImageTable:
    """Return a dataset's table with excluded rows left out and every row dealt to a side.

    Raises DataError.
    """
    table = dataset.table()
    if dataset.exclude is not None:
        listed = read_csv(dataset.exclude, ["path", "reason"])
        table = table.without(dict(zip(listed["path"], listed["reason"], strict=True)))
    if not len(table):
        raise DataError(Problem("no-samples", "the dataset has no samples", file=table.source))
    sides = split.assign(table)
    return table.with_frame(table.frame.assign(split=sides.to_numpy()))


def prepare(
    table: ImageTable,
    dataset: Dataset,
    chain: tuple[Prepare, ...],
    *,
    threads: int = 0,
    progress: Progress | None = None,
    faults: Path,
) -> Samples:
    """Prepare a table's pixels, and deal with the images that cannot be read.

    They are listed in the CSV file `faults` (path, reason, row), in the form that `exclude` takes.
    Raises DataError where the dataset says that they fail the run, or there are too many to skip.
    """
    gone = missing(table)
    if gone and dataset.on_bad_image == "fail":
        raise _bad(table, gone, faults)
    prepared = fill(table, chain, threads=threads, progress=progress)
    if not prepared.bad:
        return _samples(table, prepared, np.arange(len(table)))
    failure = _bad(table, prepared.bad, faults)
    if dataset.on_bad_image == "fail" or len(prepared.bad) > dataset.bad_images_at_most * len(table):
        raise failure
    kept = np.setdiff1d(np.arange(len(table)), list(prepared.bad))
    return _samples(table, prepared, kept)


def _samples(table: ImageTable, prepared: Prepared, kept: np.ndarray[Any, Any]) -> Samples:
    paths = table.frame["path"]
    kept_table = table.without({paths.iat[i]: reason for i, reason in prepared.bad.items()})
    split = kept_table.frame["split"].to_numpy()
    sides = {side: np.flatnonzero(split == side) for side in SPLITS}
    digests = [prepared.digests[index] for index in kept]
    return Samples(kept_table, prepared.rows.take(kept), sides, _data_id(kept_table, digests))


def _data_id(table: ImageTable, digests: list[str]) -> str:
    """Return the hash of contents and labels; the order of the rows does not matter."""
    labels = [table.classes[label] for label in table.labels]
    rows = sorted(zip(table.frame["path"], digests, labels, strict=True))
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _bad(table: ImageTable, bad: Mapping[int, str], faults: Path) -> DataError:
    """List bad images in a file, and return the error that names the first."""
    paths = table.frame["path"]
    rows = [(paths.iat[index], reason, table.line(index)) for index, reason in bad.items()]
    pd.DataFrame(rows, columns=["path", "reason", "row"]).to_csv(faults, index=False)
    name, reason, line = rows[0]
    message = f"{len(bad)} of {len(table)} images cannot be read; first: {name} ({reason})"
    hint = f'all listed in {faults}; mend them, name that file in dataset.exclude, or on_bad_image = "skip"'
    return DataError(Problem("bad-images", message, hint, file=table.source, line=line))
