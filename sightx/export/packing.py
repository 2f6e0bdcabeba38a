"""Write an experiment's prepared pixels as a dataset of its own: a pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sightx.data.cache.build import PreprocessedPixels
from sightx.data.cache.row_file import RowFile
from sightx.data.dataset import CacheConfig, PreprocessJob, load_table, preprocess_checked
from sightx.data.preprocess import ProgressCallback
from sightx.export.delivery import SPEC, ExportReport, atomic_export, dataset_table, export_spec
from sightx.export.index import INDEX, write_index
from sightx.export.pack import DESCRIPTION, PIXELS, Pack
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.records.table import DecodeInfo, ImageTable
from sightx.registry import provenance
from sightx.registry.components import to_plain
from sightx.spec.experiment import Experiment

_TOGETHER = 256  # rows that are copied at once


def write_pack(
    experiment: Experiment, folder: Path, faults: Path, *, progress: ProgressCallback | None = None
) -> ExportReport:
    """Write the prepared pixels of every image of the dataset, and a spec that trains on them.

    What is bad is listed in the file `faults`, and dealt with as the dataset says. `progress`
    hears (done, of) while images are prepared. Raises DataError, and SpecError where the folder
    is not empty.
    """
    with atomic_export(folder, DESCRIPTION) as writing:
        table = load_table(experiment.dataset)
        prepared = _prepared(experiment, table, faults, progress)
        good = np.setdiff1d(np.arange(len(table)), list(prepared.bad))
        kept, rows = table.take(good), prepared.rows.take(good)
        # What was packed before goes on under the hash of what it was made of.
        before = Hashes.from_hex(kept.frame["sha256"]) if kept.chain else None
        digests = before or prepared.hashes.take(good)
        size = _copy(rows, digests, writing / PIXELS)
        write_index(writing / INDEX, kept, pd.DataFrame({"sha256": list(digests)}))
        said = {**dataset_table(experiment, kept, "packed"), "shape": list(rows.shape)}
        text = export_spec(experiment, said, prepared=True)
        (writing / SPEC).write_text(text, encoding="utf-8")
        described = _describe(experiment, kept)
        (writing / DESCRIPTION).write_text(described.model_dump_json(indent=1) + "\n")
    return ExportReport(len(kept), size, said)


def _prepared(
    experiment: Experiment, table: ImageTable, faults: Path, progress: ProgressCallback | None
) -> PreprocessedPixels:
    """Return the pixels of all images, to be read from the store: they may not fit in memory."""
    dataset = experiment.dataset
    return preprocess_checked(
        PreprocessJob.of(experiment, table),
        dataset,
        CacheConfig.of(experiment),
        progress=progress,
        bad_images_csv=faults,
    )


def _copy(rows: PixelRows, digests: Hashes, folder: Path) -> int:
    """Write the row of each content once; return how many bytes they have."""
    firsts = np.sort(np.unique(digests.raw, return_index=True)[1])
    shelf = RowFile.create(folder, {"shape": list(rows.shape)})
    with shelf.writer() as filling:
        for start in range(0, len(firsts), _TOGETHER):
            some = firsts[start : start + _TOGETHER]
            for position, row in zip(some, rows.gather(some), strict=True):
                filling.append(bytes.fromhex(digests[position]), row)
    return len(firsts) * shelf.row_bytes


def _describe(experiment: Experiment, kept: ImageTable) -> Pack:
    registry = experiment.context.registry
    own = [
        {"preprocess": to_plain(each), "origin": provenance.component_origin(each, registry)}
        for each in experiment.preprocess
    ]
    decoded = kept.decoded if kept.chain else DecodeInfo(experiment.dataset.decode, len(own))
    return Pack(
        classes=kept.classes,
        ordered=kept.ordered,
        samples=len(kept),
        chain=(*kept.chain, *own),
        decode=decoded.mode,
        decoded_for=decoded.steps or 0,
        source={"name": experiment.name, "dataset": experiment.dataset.use, "id": experiment.id},
    )
