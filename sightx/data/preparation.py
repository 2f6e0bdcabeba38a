"""Prepared pixels for a table: from the store, from the dataset itself, or made each time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sightx.data.cache import build, store
from sightx.data.cache.build import PreprocessedPixels
from sightx.data.cache.hashes import FileHashCache, FileStates
from sightx.data.cache.placement import CacheMode, OnTheFlyPixels
from sightx.data.cache.store import PixelCache
from sightx.data.decode.scaling import min_decoded_size
from sightx.data.preprocess import Preprocessor, ProgressCallback, output_shape
from sightx.errors import ResourceError
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable
from sightx.registry.kinds import Preprocess
from sightx.registry.registry import Registry
from sightx.spec.experiment import Experiment

if TYPE_CHECKING:
    import torch


_ROWS = 64  # that are read at once


@dataclass(frozen=True)
class CacheConfig:
    """Say where prepared pixels are kept and read from.

    `where` is what `execution.cache` says, `root` the folder of the store, `device` that of the
    network; `registry` knows whose code the chain is.
    """

    where: CacheMode = "auto"
    root: Path | None = None
    device: torch.device | None = None
    registry: Registry | None = None

    @classmethod
    def of(cls, experiment: Experiment, device: torch.device | None = None) -> CacheConfig:
        """Return what an experiment says."""
        where, context = experiment.execution.cache, experiment.context
        return cls(where, store.cache_folder(context.project), device, context.registry)

    def insisting(self) -> CacheConfig:
        """Return the same with the store on disk, whatever was said."""
        return replace(self, where="disk")

    @property
    def store(self) -> PixelCache:
        """Return the store."""
        return PixelCache(self.root or store.cache_folder())


@dataclass(frozen=True)
class PreprocessJob:
    """Say what is to be prepared, and how: `files` is what was seen of the table's."""

    table: ImageTable
    files: FileStates
    chain: tuple[Preprocess, ...]
    decode: Literal["scaled", "exact"] = "scaled"

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of a prepared image. Raises SpecError where there is no one size."""
        return output_shape(self.chain, self.table.shape)

    @property
    def maker(self) -> Preprocessor:
        """Return what makes rows of images."""
        return Preprocessor(self.table, self.chain, min_decoded_size(self.chain, self.decode))

    def about(self, registry: Registry | None) -> Mapping[str, Any]:
        """Return all that the rows depend on beside the content of their images."""
        return store.cache_key(self.chain, self.shape, self.decode, registry)


def load_or_build(
    source: PreprocessJob,
    storage: CacheConfig,
    threads: int = 0,
    progress: ProgressCallback | None = None,
    *,
    verify: bool = False,
) -> PreprocessedPixels:
    """Return the prepared pixels of a table's images, on disk or live.

    With `verify` every row that is there is read. Raises PluginError, naming the image, for a
    component that fails; ResourceError where the store cannot take them and `storage` insists;
    DataError for a damaged row of the dataset's own.
    """
    table = source.table
    if table.prepared is not None and not source.chain:
        if verify:  # nothing can be made again here: reading raises for what is damaged
            for start in range(0, len(table), _ROWS):
                table.prepared.gather(np.arange(start, min(start + _ROWS, len(table))))
        named = table.frame["sha256"] if "sha256" in table.frame else [""] * len(table)
        return PreprocessedPixels(table.prepared, Hashes.from_hex(named))
    if storage.where == "off":
        return _live(source, "execution.cache says so", threads, progress)
    try:
        known = FileHashCache(storage.store.files, table, source.files)
        about = source.about(storage.registry)
        return build.build_cache(
            source.maker, known, storage.store, about,
            threads=threads, progress=progress, verify=verify,
        )  # fmt: skip
    except ResourceError as error:
        (problem, *_) = error.problems
        if storage.where != "auto" or problem.code not in ("disk-full", "no-cache"):
            raise
        return _live(source, problem.message, threads, progress)


def _live(
    source: PreprocessJob, why: str, threads: int, progress: ProgressCallback | None
) -> PreprocessedPixels:
    """Return pixels that are made whenever they are read, after every image was made once."""
    count = len(source.table)
    digests, bad = Hashes.unknown(count), dict[int, str]()
    with closing(source.maker.all(np.arange(count), threads)) as images:
        for done, made in enumerate(images, start=1):
            digests.raw[made.index] = made.digest
            if made.reason:
                bad[made.index] = made.reason
            if progress:
                progress(done, count)
    live = OnTheFlyPixels(source.maker, digests, source.shape, threads, why)
    return PreprocessedPixels(PixelRows(live, np.arange(count)), digests, bad)
