"""Prepared pixels for a table: from the store, from the dataset itself, or made each time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sightx.data import filling, store
from sightx.data.digests import Digests
from sightx.data.filling import Prepared
from sightx.data.known import Files, Known
from sightx.data.pixels import Maker, Progress, output_shape
from sightx.data.residence import Live, Where
from sightx.data.rows import Rows
from sightx.data.scaling import least
from sightx.data.store import Store
from sightx.data.table import ImageTable
from sightx.errors import ResourceError
from sightx.registry.kinds import Prepare
from sightx.registry.registry import Registry
from sightx.spec.experiment import Experiment

if TYPE_CHECKING:
    import torch


_ROWS = 64  # that are read at once


@dataclass(frozen=True)
class Storage:
    """Say where prepared pixels are kept and read from.

    `where` is what `execution.store` says, `root` the folder of the store, `device` that of the
    network; `registry` knows whose code the chain is.
    """

    where: Where = "auto"
    root: Path | None = None
    device: torch.device | None = None
    registry: Registry | None = None

    @classmethod
    def of(cls, experiment: Experiment, device: torch.device | None = None) -> Storage:
        """Return what an experiment says."""
        where, origin = experiment.execution.store, experiment.origin
        if origin is None:
            return cls(where, None, device)
        return cls(where, store.folder(origin.project), device, origin.registry)

    def insisting(self) -> Storage:
        """Return the same with the store on disk, whatever was said."""
        return replace(self, where="disk")

    @property
    def store(self) -> Store:
        """Return the store."""
        return Store(self.root or store.folder())


@dataclass(frozen=True)
class Source:
    """Say what is to be prepared, and how: `files` is what was seen of the table's."""

    table: ImageTable
    files: Files
    chain: tuple[Prepare, ...]
    decode: Literal["scaled", "exact"] = "scaled"

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of a prepared image. Raises SpecError where there is no one size."""
        return output_shape(self.chain, self.table.shape)

    @property
    def maker(self) -> Maker:
        """Return what makes rows of images."""
        return Maker(self.table, self.chain, least(self.chain, self.decode))

    def about(self, registry: Registry | None) -> Mapping[str, Any]:
        """Return all that the rows depend on beside the content of their images."""
        return store.describe(self.chain, self.shape, self.decode, registry)


def obtain(
    source: Source,
    storage: Storage,
    threads: int = 0,
    progress: Progress | None = None,
    *,
    verify: bool = False,
) -> Prepared:
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
        named = table.frame["digest"] if "digest" in table.frame else [""] * len(table)
        return Prepared(table.prepared, Digests.from_hex(named))
    if storage.where == "off":
        return _live(source, "execution.store says so", threads, progress)
    try:
        known = Known(storage.store.files, table, source.files)
        about = source.about(storage.registry)
        return filling.fill(
            source.maker, known, storage.store, about,
            threads=threads, progress=progress, verify=verify,
        )  # fmt: skip
    except ResourceError as error:
        (problem, *_) = error.problems
        if storage.where != "auto" or problem.code not in ("disk-full", "no-store"):
            raise
        return _live(source, problem.message, threads, progress)


def _live(source: Source, why: str, threads: int, progress: Progress | None) -> Prepared:
    """Return pixels that are made whenever they are read, after every image was made once."""
    count = len(source.table)
    digests, bad = Digests.unknown(count), dict[int, str]()
    with closing(source.maker.all(np.arange(count), threads)) as images:
        for done, made in enumerate(images, start=1):
            digests.raw[made.index] = made.digest
            if made.reason:
                bad[made.index] = made.reason
            if progress:
                progress(done, count)
    live = Live(source.maker, digests, source.shape, threads, why)
    return Prepared(Rows(live, np.arange(count)), digests, bad)
