"""The data of a run: load the table, split it, preprocess its images, refuse what is wrong."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.data.cache import store
from sightx.data.cache.build import PreprocessedPixels, build_cache
from sightx.data.cache.file_hashes import FileHashCache, FileStates, stat_files
from sightx.data.cache.placement import CacheMode, OnTheFlyPixels, Placement, place
from sightx.data.cache.store import PixelCache
from sightx.data.checks import check_bad_images, check_conflicting_copies, check_copies
from sightx.data.classes import class_positions
from sightx.data.csv_labels import read_exclusions
from sightx.data.decode.decoder import DecodeMode, min_decoded_size
from sightx.data.preprocess import Preprocessor, ProgressCallback, output_shape
from sightx.errors import DataError, Problem, ResourceError
from sightx.io.files import is_unicode
from sightx.records import SPLITS
from sightx.records.faults import Faults
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable
from sightx.registry import data_results
from sightx.registry.kinds import Dataset, Preprocess, Split
from sightx.registry.registry import Registry
from sightx.spec.experiment import Experiment

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]

_NO_PIXELS = np.iinfo(np.int64).max  # the index of a row that is in no split
_VERIFY_ROWS = 64


@dataclass(frozen=True)
class PreparedDataset:
    """Everything that training and evaluation read.

    `rows` follow the table; only those in a split can be read. `splits` maps train, validation and
    test to positions in the table. `id` is the hash of all images' contents and labels, `hashes`
    are those of the contents. `placement` says where the rows are read from.
    """

    table: ImageTable
    rows: PixelRows
    splits: Mapping[str, Array]
    id: str
    hashes: Sequence[str] = ()
    placement: Placement | None = None

    @property
    def packed(self) -> dict[str, Any]:
        """Return how the images of a pack were decoded and preprocessed, as JSON; else {}."""
        table = self.table
        return {"decoded": list(table.decoded), "chain": list(table.chain)} if table.chain else {}

    def counts(self, split: str) -> list[int]:
        """Return the number of samples of each class in a split."""
        return self.table.counts(self.splits[split])

    def split_id(self, split: str) -> str:
        """Return the SHA-256 of a split: of the hash and the label of each sample, sorted.

        Names of files and the order of samples do not matter.
        """
        rows = self.splits[split]
        labels = self.table.labels[rows]
        pairs = zip((self.hashes[row] for row in rows), labels, strict=True)
        lines = sorted(f"{digest} {label}\n" for digest, label in pairs)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class CacheConfig:
    """How pixels are cached: `mode` is `execution.cache`, `root` the folder of the cache.

    `threads` decode images, 0 means one per core; `registry` knows the code of the components.
    """

    mode: CacheMode = "auto"
    root: Path | None = None
    threads: int = 0
    registry: Registry | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> CacheConfig:
        """Return an experiment's configuration."""
        execution, context = experiment.execution, experiment.context
        root = store.cache_folder(context.project)
        return cls(execution.cache, root, execution.threads, context.registry)

    @property
    def cache(self) -> PixelCache:
        """Return the cache."""
        return PixelCache(self.root or store.cache_folder())


@dataclass(frozen=True)
class PreprocessJob:
    """What to preprocess, and how."""

    table: ImageTable
    chain: tuple[Preprocess, ...]
    decode: DecodeMode = "scaled"

    @classmethod
    def of(cls, experiment: Experiment, table: ImageTable) -> PreprocessJob:
        """Return the job of an experiment on a table."""
        return cls(table, experiment.preprocess, experiment.dataset.decode)

    @cached_property
    def files(self) -> FileStates:
        """Return the states of the table's files, when they are first looked at."""
        return stat_files(self.table)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of a preprocessed image. Raises SpecError if there is no one size."""
        return output_shape(self.chain, self.table.shape)

    @property
    def preprocessor(self) -> Preprocessor:
        """Return what preprocesses the images."""
        return Preprocessor(self.table, self.chain, min_decoded_size(self.chain, self.decode))


def load_table(dataset: Dataset) -> ImageTable:
    """Return a dataset's table without excluded rows.

    Raises DataError; this is IncompleteTableError if only some rows are wrong.
    """
    faults = Faults()
    table = faults.collect(lambda: data_results.image_table(dataset))
    if not len(table):
        hint = "it needs rows, or folders with images"
        raise DataError(Problem("no-samples", "there are no samples", hint, file=table.source))
    table = check_names(table, faults)
    if dataset.exclude is not None:
        paths = list(table.frame["path"])
        unknown = Faults() if faults else faults  # rows that are wrong may be those excluded
        table = table.without(read_exclusions(dataset.exclude, paths, unknown))
        if not len(table):
            file = str(dataset.exclude)
            raise DataError(Problem("no-samples", "it excludes every sample", file=file))
    return faults.refuse(table)


def check_names(table: ImageTable, faults: Faults) -> ImageTable:
    """Return the rows whose names the files of a run can hold; the others are faults.

    Raises DataError for such a class.
    """
    hint, wrong = "rename it", set[int]()
    for name in table.classes:
        if not name.isprintable():
            fault = "has a control character" if is_unicode(name) else "is not UTF-8"
            message = f"the class {name!r} {fault}"
            raise DataError(Problem("path-invalid", message, hint, file=table.source))
    for column in ("path", "group", *table.columns):
        for row, name in enumerate(table.frame[column].astype(str)):
            if name.isascii() and "\r" not in name and "\0" not in name:
                continue
            if not is_unicode(name):
                reason = "is not UTF-8"
            elif "\r" in name or "\0" in name:
                reason = "has a carriage return or a NUL"
            else:
                continue
            problem = Problem("path-invalid", f"the {column} {name!r} {reason}", hint)
            faults.add(problem.at(table.source, table.line(row)))
            wrong.add(row)
    return table.take(np.setdiff1d(np.arange(len(table)), list(wrong))) if wrong else table


def load_split_table(dataset: Dataset, split: Split) -> ImageTable:
    """Return a dataset's table with its column `split` assigned. Raises DataError."""
    table = load_table(dataset)
    splits = data_results.assigned_splits(split, table)
    if not (splits == "train").any():
        hint = "see the split, and what dataset.exclude leaves out"
        message = "no sample is in the training split"
        raise DataError(Problem("no-training", message, hint, file=table.source))
    return table.with_frame(table.frame.assign(split=splits))


def align_classes(table: ImageTable, classes: Sequence[str]) -> ImageTable:
    """Return the table with labels as positions in other classes, found by their names.

    A table with samples of a class that is not among them stays as it is.
    """
    positions = class_positions(table.classes, classes)
    moved = np.array([positions.get(name, -1) for name in table.classes])
    labels = moved[table.labels]
    if (labels < 0).any():
        return table
    return replace(table, frame=table.frame.assign(label=labels), classes=tuple(classes))


def prepare_dataset(
    experiment: Experiment,
    table: ImageTable,
    *,
    device: torch.device | None = None,
    progress: ProgressCallback | None = None,
    bad_images_csv: Path,
) -> PreparedDataset:
    """Preprocess the images of a split table, and place the pixels where a run reads them.

    Images that cannot be read are listed in `bad_images_csv` (path, reason, row), in the form that
    `dataset.exclude` takes. So are copies to leave out, in a file next to it, if images of the same
    content are in two splits. Raises DataError for those, or if more images are bad than the
    dataset skips; and ResourceError if the pixels do not fit where `execution.cache` wants them.
    """
    job, config = PreprocessJob.of(experiment, table), CacheConfig.of(experiment)
    pixels = preprocess_checked(
        job, experiment.dataset, config, progress=progress, bad_images_csv=bad_images_csv
    )
    paths = table.frame["path"]
    kept = np.setdiff1d(np.arange(len(table)), list(pixels.bad))
    table = table.without({str(paths.iat[i]): reason for i, reason in pixels.bad.items()})
    hashes = pixels.hashes.take(kept)
    split = table.frame["split"].to_numpy()
    splits = {name: np.flatnonzero(split == name) for name in SPLITS}
    check_copies(
        table, hashes, splits, experiment.dataset,
        bad_images_csv.with_name("copies-across-splits.csv"),
        allowed="copies-across-splits" in experiment.allow,
    )  # fmt: skip
    used = np.sort(np.concatenate(list(splits.values())))
    check_conflicting_copies(table, hashes, used, allowed="conflicting-copies" in experiment.allow)
    rows, placement = place(pixels.rows.take(kept[used]), config.mode, device)
    index = np.full(len(kept), _NO_PIXELS)
    index[used] = rows.index
    data_id = _data_id(table, hashes)
    return PreparedDataset(table, PixelRows(rows.pixels, index), splits, data_id, hashes, placement)


def content_hashes(experiment: Experiment, table: ImageTable) -> list[str]:
    """Return the SHA-256 of each image's content; "" for one that cannot be read.

    Images are decoded only if their pixels are cached.
    """
    job, config = PreprocessJob.of(experiment, table), CacheConfig.of(experiment)
    if config.mode != "off" or table.prepared is not None:
        return list(load_or_build(job, config).hashes)
    reader = replace(job.preprocessor, is_needed=lambda _: False)
    with closing(reader.process_all(np.arange(len(table)), config.threads)) as images:
        return [image.digest.hex() for image in images]


def preprocess_checked(
    job: PreprocessJob,
    dataset: Dataset,
    config: CacheConfig,
    *,
    progress: ProgressCallback | None = None,
    verify: bool = False,
    bad_images_csv: Path,
) -> PreprocessedPixels:
    """Return the pixels of all images. Raises DataError as `check_bad_images` does."""
    errors = job.files.errors
    check_bad_images(job.table, errors, dataset, bad_images_csv, all_read=False)
    pixels = load_or_build(job, config, progress, verify=verify)
    check_bad_images(job.table, pixels.bad, dataset, bad_images_csv)
    return pixels


def load_or_build(
    job: PreprocessJob,
    config: CacheConfig,
    progress: ProgressCallback | None = None,
    *,
    verify: bool = False,
) -> PreprocessedPixels:
    """Return the pixels of a table's images: cached, of the dataset itself, or decoded when read.

    With `verify` every existing row is read. Raises PluginError, naming the image, for a component
    that fails; ResourceError if the cache cannot hold the rows and the mode is not auto; DataError
    for a damaged row of the dataset itself.
    """
    table = job.table
    if table.prepared is not None and not job.chain:
        if verify:  # it cannot be built again: reading raises for a damaged row
            for start in range(0, len(table), _VERIFY_ROWS):
                table.prepared.gather(np.arange(start, min(start + _VERIFY_ROWS, len(table))))
        known = table.frame["sha256"] if "sha256" in table.frame else [""] * len(table)
        return PreprocessedPixels(table.prepared, Hashes.from_hex(known))
    if config.mode == "off":
        return _decode_on_the_fly(job, "execution.cache is off", config.threads, progress)
    try:
        return build_cache(
            job.preprocessor,
            FileHashCache(config.cache.files, table, job.files),
            config.cache,
            store.cache_key(job.chain, job.shape, job.decode, config.registry),
            threads=config.threads, progress=progress, verify=verify,
        )  # fmt: skip
    except ResourceError as error:
        (problem, *_) = error.problems
        if config.mode != "auto" or problem.code not in ("disk-full", "no-cache"):
            raise
        return _decode_on_the_fly(job, problem.message, config.threads, progress)


def _decode_on_the_fly(
    job: PreprocessJob, why: str, threads: int, progress: ProgressCallback | None
) -> PreprocessedPixels:
    """Return pixels that are decoded each time, after every image was decoded once as a check."""
    total = len(job.table)
    hashes, bad = Hashes.unknown(total), dict[int, str]()
    with closing(job.preprocessor.process_all(np.arange(total), threads)) as images:
        for done, image in enumerate(images, start=1):
            hashes.raw[image.index] = image.digest
            if image.reason:
                bad[image.index] = image.reason
            if progress:
                progress(done, total)
    pixels = OnTheFlyPixels(job.preprocessor, hashes, job.shape, threads, why)
    return PreprocessedPixels(PixelRows(pixels, np.arange(total)), hashes, bad)


def _data_id(table: ImageTable, hashes: Hashes) -> str:
    """Return the hash of contents, labels and extra columns, whatever the order of the rows."""
    paths, labels = table.frame["path"].to_numpy(object), table.labels
    extra = table.frame[list(table.columns)].to_numpy(object)
    digest = hashlib.sha256()
    for index in np.argsort(paths):  # no two are equal
        row = (paths[index], hashes[index], table.classes[labels[index]], *extra[index])
        digest.update(repr(row).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class CacheReport:
    """What the cache holds for an experiment.

    `built` is the number of rows that were built now, `damaged` how many of them replace a damaged
    row; `size` is the bytes of all rows. `min_size` is the (height, width) that a decoded image
    keeps, None if images are decoded at full size.
    """

    samples: int
    rows: int
    built: int
    damaged: int
    bad: int
    size: int
    folder: Path
    seconds: float
    min_size: tuple[int, int] | None


def warm_cache(
    experiment: Experiment, bad_images_csv: Path, progress: ProgressCallback | None = None
) -> CacheReport:
    """Build the cache for every image that is not excluded, and verify the rows that exist.

    Raises DataError, ResourceError, PluginError.
    """
    started = time.perf_counter()
    job = PreprocessJob.of(experiment, load_table(experiment.dataset))
    config = replace(CacheConfig.of(experiment), mode="disk")
    pixels = preprocess_checked(
        job, experiment.dataset, config, progress=progress, verify=True,
        bad_images_csv=bad_images_csv,
    )  # fmt: skip
    rows = len(np.unique(pixels.rows.index[pixels.rows.index >= 0]))
    return CacheReport(
        samples=len(job.table),
        rows=rows,
        built=pixels.built,
        damaged=pixels.damaged,
        bad=len(pixels.bad),
        size=rows * int(np.prod(job.shape)),
        folder=config.cache.root,
        seconds=time.perf_counter() - started,
        min_size=job.preprocessor.min_size,
    )
