"""Prepare what an experiment needs before it runs: `sightx prepare`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightx.data.cache.hashes import stat_files
from sightx.data.dataset import load_table, preprocess_checked
from sightx.data.preparation import CacheConfig, PreprocessJob
from sightx.data.preprocess import ProgressCallback
from sightx.spec.experiment import Experiment


@dataclass(frozen=True)
class CacheReport:
    """Say what the store holds for an experiment.

    `made` counts rows that were made just now, `damaged` those of them that were there, but
    damaged; `size` is the bytes of all its rows. `least` is the (height, width) that a decoded
    image keeps, None where images are decoded whole.
    """

    samples: int
    rows: int
    made: int
    damaged: int
    bad: int
    size: int
    folder: Path
    seconds: float
    least: tuple[int, int] | None


def warm_cache(
    experiment: Experiment, faults: Path, progress: ProgressCallback | None = None
) -> CacheReport:
    """Prepare every image of the dataset that is not excluded; look at rows that were there.

    Bad images are listed in the file `faults`. Raises DataError, ResourceError, PluginError.
    """
    started, dataset = time.perf_counter(), experiment.dataset
    table = load_table(dataset)
    source = PreprocessJob(table, stat_files(table), experiment.preprocess, dataset.decode)
    storage = CacheConfig.of(experiment).insisting()
    prepared = preprocess_checked(
        source, dataset, storage, threads=experiment.execution.threads, progress=progress,
        verify=True, faults=faults,
    )  # fmt: skip
    rows = len(np.unique(prepared.rows.index[prepared.rows.index >= 0]))
    return CacheReport(
        samples=len(table),
        rows=rows,
        made=prepared.made,
        damaged=prepared.damaged,
        bad=len(prepared.bad),
        size=rows * int(np.prod(source.shape)),
        folder=storage.store.root,
        seconds=time.perf_counter() - started,
        least=source.maker.least,
    )
