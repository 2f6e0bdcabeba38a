"""Prepare what an experiment needs before it runs: `sightx prepare`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightx.data.known import files
from sightx.data.pixels import Progress
from sightx.data.preparation import Source, Storage
from sightx.data.samples import judged, open_rows
from sightx.spec.experiment import Experiment


@dataclass(frozen=True)
class Stock:
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


def lay_in(experiment: Experiment, faults: Path, progress: Progress | None = None) -> Stock:
    """Prepare every image of the dataset that is not excluded; look at rows that were there.

    Bad images are listed in the file `faults`. Raises DataError, ResourceError, PluginError.
    """
    started, dataset = time.perf_counter(), experiment.dataset
    table = open_rows(dataset)
    source = Source(table, files(table), experiment.prepare, dataset.decode)
    storage = Storage.of(experiment).insisting()
    prepared = judged(
        source, dataset, storage, threads=experiment.execution.threads, progress=progress,
        verify=True, faults=faults,
    )  # fmt: skip
    rows = len(np.unique(prepared.rows.index[prepared.rows.index >= 0]))
    return Stock(
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
