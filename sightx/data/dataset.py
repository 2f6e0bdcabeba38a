"""The data of a run: a table, its sides, and prepared pixels."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sightx.data.cache.build import PreprocessedPixels
from sightx.data.cache.hashes import stat_files
from sightx.data.cache.placement import Placement, place
from sightx.data.csv_labels import read_exclusions
from sightx.data.preparation import CacheConfig, PreprocessJob, load_or_build
from sightx.data.preprocess import ProgressCallback
from sightx.errors import DataError, Problem
from sightx.records import SPLITS
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable
from sightx.registry.kinds import Dataset, Preprocess, Split

SplitPositions = Mapping[str, np.ndarray[Any, Any]]

_log = logging.getLogger("sightx")
_NOWHERE = np.iinfo(np.int64).max  # where the pixels lie of a row that is on no side


@dataclass(frozen=True)
class PreparedDataset:
    """Hold everything that training and evaluation read.

    `rows` follow the table, and can be read for those on a side; `sides` maps train, validation and
    test to positions in it; `id` is the hash of the content of all images and their labels;
    `digests` has each image's own. `residence` says where the rows are read from.
    """

    table: ImageTable
    rows: PixelRows
    splits: SplitPositions
    id: str
    digests: Sequence[str] = ()
    residence: Placement | None = None

    @property
    def packed(self) -> dict[str, Any]:
        """Return how images were decoded and prepared before, as JSON holds it; {} without."""
        table = self.table
        return {"decoded": list(table.decoded), "chain": list(table.chain)} if table.chain else {}

    def counts(self, side: str) -> list[int]:
        """Return the number of samples of each class on a side."""
        return self.table.counts(self.splits[side])


def load_table(dataset: Dataset) -> ImageTable:
    """Return a dataset's table with excluded rows left out. Raises DataError."""
    table = dataset.table()
    if not len(table):
        hint = "it needs rows, or folders with images"
        raise DataError(Problem("no-samples", "there are no samples", hint, file=table.source))
    if dataset.exclude is not None:
        table = table.without(read_exclusions(dataset.exclude, list(table.frame["path"])))
        if not len(table):
            file = str(dataset.exclude)
            raise DataError(Problem("no-samples", "it leaves out every sample", file=file))
    return table


def load_split_table(dataset: Dataset, split: Split) -> ImageTable:
    """Return the rows of a dataset that are not excluded, each dealt to a side.

    Raises DataError.
    """
    table = load_table(dataset)
    sides = split.assign(table)
    if not (sides == "train").any():
        hint = "see the split, and what dataset.exclude leaves out"
        raise DataError(Problem("no-training", "no sample is on train", hint, file=table.source))
    return table.with_frame(table.frame.assign(split=sides.to_numpy()))


def prepare_dataset(
    table: ImageTable,
    dataset: Dataset,
    chain: tuple[Preprocess, ...],
    *,
    storage: CacheConfig | None = None,
    threads: int = 0,
    progress: ProgressCallback | None = None,
    faults: Path,
) -> PreparedDataset:
    """Prepare a table's pixels, and deal with the images that cannot be read.

    They are listed in the CSV file `faults` (path, reason, row), in the form that `exclude` takes.
    Raises DataError where the dataset says that they fail the run, or there are too many to skip,
    ResourceError where the pixels do not fit where `storage` wants them.
    """
    storage = storage or CacheConfig()
    source = PreprocessJob(table, stat_files(table), chain, dataset.decode)
    prepared = preprocess_checked(
        source, dataset, storage, threads=threads, progress=progress, faults=faults
    )
    return _samples(table, prepared, storage)


def preprocess_checked(
    source: PreprocessJob,
    dataset: Dataset,
    storage: CacheConfig,
    *,
    threads: int = 0,
    progress: ProgressCallback | None = None,
    verify: bool = False,
    faults: Path,
) -> PreprocessedPixels:
    """Return the pixels of all images where `obtain` keeps them; bad ones are dealt with."""
    check_bad_images(source.table, source.files.absent, dataset, faults)
    prepared = load_or_build(source, storage, threads, progress, verify=verify)
    check_bad_images(source.table, prepared.bad, dataset, faults)
    return prepared


def check_missing_files(table: ImageTable, dataset: Dataset) -> None:
    """Raise DataError where more images are missing than the dataset lets be left out."""
    check_bad_images(table, stat_files(table).absent, dataset, None)


def _samples(
    table: ImageTable, prepared: PreprocessedPixels, storage: CacheConfig
) -> PreparedDataset:
    paths = table.frame["path"]
    kept = np.setdiff1d(np.arange(len(table)), list(prepared.bad))
    kept_table = table.without({str(paths.iat[i]): reason for i, reason in prepared.bad.items()})
    split = kept_table.frame["split"].to_numpy()
    sides = {side: np.flatnonzero(split == side) for side in SPLITS}
    digests = prepared.digests.take(kept)
    used = np.sort(np.concatenate(list(sides.values())))
    some, residence = place(prepared.rows.take(kept[used]), storage.where, storage.device)
    _log.info("%s", residence)
    index = np.full(len(kept), _NOWHERE)
    index[used] = some.index
    rows = PixelRows(some.pixels, index)
    return PreparedDataset(
        kept_table, rows, sides, _data_id(kept_table, digests), digests, residence
    )


def _data_id(table: ImageTable, digests: Hashes) -> str:
    """Return the hash of contents and labels; the order of the rows does not matter."""
    paths, labels = table.frame["path"].to_numpy(object), table.labels
    digest = hashlib.sha256()
    for index in np.argsort(paths):  # no two are the same
        row = (paths[index], digests[index], table.classes[labels[index]])
        digest.update(repr(row).encode())
    return digest.hexdigest()


def check_bad_images(
    table: ImageTable, bad: Mapping[int, str], dataset: Dataset, faults: Path | None
) -> None:
    """List bad images in a file, if one is given; raise DataError where they are too many."""
    if not bad:
        return
    paths, most = table.frame["path"], dataset.bad_images_at_most
    rows = [(paths.iat[index], reason, table.line(index)) for index, reason in bad.items()]
    if faults:
        pd.DataFrame(rows, columns=["path", "reason", "row"]).to_csv(faults, index=False)
    skip = dataset.on_bad_image == "skip"
    if skip and len(bad) / len(table) <= most:
        return
    name, reason, line = rows[0]
    cannot = "are missing" if set(bad.values()) == {"missing"} else "cannot be read"
    message = f"{len(bad)} of {len(table)} images {cannot}; first: {name} ({reason})"
    if skip:
        message = f"{message}; dataset.bad_images_at_most is {most:g}"
    hint = "mend them, or let dataset.exclude name a CSV of path,reason"
    if faults:
        near = Path("...", *faults.parts[-2:])  # so that the line has room for the image's name
        if faults.is_relative_to(Path.cwd()):
            near = faults.relative_to(Path.cwd())
        hint = f"mend them, or leave them out: --set dataset.exclude={near}"
    if len(bad) == len(table) and table.root is not None:
        hint = f"is {table.root} the folder of images?"
    raise DataError(Problem("bad-images", message, hint, file=table.source, line=line))
