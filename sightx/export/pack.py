"""Packs: preprocessed pixels with the table of their samples, and how they were preprocessed.

pack.json    the description, see `Pack`
index.csv    one row per sample
pixels/      a `RowFile` with one row per image content
spec.toml    the experiment on these data
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import NonNegativeInt

from sightx.data.cache.row_file import RowFile
from sightx.data.dataset import CacheConfig, PreprocessJob, load_table, preprocess_checked
from sightx.data.preprocess import ProgressCallback
from sightx.export import dataset_folder
from sightx.export.dataset_folder import INDEX, Description, ExportReport
from sightx.export.storage import Storage
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.records.table import DecodeInfo, ImageTable
from sightx.registry import provenance
from sightx.registry.components import Traits, to_plain
from sightx.spec.experiment import Experiment

DESCRIPTION, PIXELS = "pack.json", "pixels"

_HOW_TO_WRITE = "sightx prepare SPEC --pack DIR writes one"
_ROWS_PER_COPY = 256


class Pack(Description):
    """What a pack contains.

    `chain` is the table and the origin of each component of `preprocess`; `decode` is how images
    were decoded, for the first `decoded_for` components; `source` names the experiment.
    """

    chain: tuple[Mapping[str, Any], ...]
    decode: Literal["scaled", "exact"]
    decoded_for: NonNegativeInt
    source: Mapping[str, str]


def table_from_pack(root: Path, traits: Traits) -> ImageTable:
    """Return the table of a pack without reading pixels.

    `traits` are those of the spec, and must agree with the pack. Raises DataError.
    """
    storage = Storage.open(str(root), _HOW_TO_WRITE)
    description = dataset_folder.read_description(Pack, storage, DESCRIPTION, _HOW_TO_WRITE)
    index = dataset_folder.read_index(storage, description, _HOW_TO_WRITE)
    row_file, source = RowFile.open(Path(storage.root, PIXELS)), f"{storage.root}/{INDEX}"
    rows = row_file.find(Hashes.from_hex(index["sha256"]))
    dataset_folder.refuse_rows(index, pd.Series(rows < 0), source, "has no pixels")
    pixels = PixelRows(row_file.reader(), rows)
    table = ImageTable(
        dataset_folder.index_frame(index),
        description.classes,
        _PackReader(pixels),
        description.ordered,
        source,
        prepared=pixels,
        chain=description.chain,
        decoded=DecodeInfo(description.decode, description.decoded_for),
        columns=dataset_folder.extra_columns(index),
    )
    return dataset_folder.check_traits(table, traits)


@dataclass(frozen=True)
class _PackReader:
    """Read one image of a pack, uint8 (H, W, C)."""

    pixels: PixelRows

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        return self.pixels.gather(np.array([index]))[0].movedim(0, -1).numpy()


def write_pack(
    experiment: Experiment,
    folder: Path,
    bad_images_csv: Path,
    *,
    progress: ProgressCallback | None = None,
) -> ExportReport:
    """Write the preprocessed pixels of all images of a dataset, and a spec that trains on them.

    Images that cannot be read are listed in `bad_images_csv`, and treated as the dataset says.
    Raises DataError, and SpecError if the folder is not empty.
    """
    with dataset_folder.atomic_export(folder, DESCRIPTION) as writing:
        table = load_table(experiment.dataset)
        # The pixels stay in the cache on the disk: they may not fit in memory.
        pixels = preprocess_checked(
            PreprocessJob.of(experiment, table), experiment.dataset, CacheConfig.of(experiment),
            progress=progress, bad_images_csv=bad_images_csv,
        )  # fmt: skip
        good = np.setdiff1d(np.arange(len(table)), list(pixels.bad))
        table, rows, hashes = table.take(good), pixels.rows.take(good), pixels.hashes.take(good)
        if table.chain:  # the samples of a pack keep the hashes of their original images
            hashes = Hashes.from_hex(table.frame["sha256"])
        size = _write_pixels(rows, hashes, writing / PIXELS)
        dataset = dataset_folder.dataset_table(experiment, table, "packed")
        dataset["shape"] = list(rows.shape)
        spec = dataset_folder.export_spec(experiment, dataset, preprocessed=True)
        columns = pd.DataFrame({"sha256": list(hashes)})
        dataset_folder.write_metadata(writing, table, columns, spec)
        dataset_folder.write_description(writing / DESCRIPTION, _describe(experiment, table))
    return ExportReport(len(table), size, dataset)


def _write_pixels(rows: PixelRows, hashes: Hashes, folder: Path) -> int:
    """Write one row per image content; return the bytes of all."""
    firsts = np.sort(np.unique(hashes.raw, return_index=True)[1])
    row_file = RowFile.create(folder, {"shape": list(rows.shape)})
    with row_file.writer() as writer:
        for start in range(0, len(firsts), _ROWS_PER_COPY):
            positions = firsts[start : start + _ROWS_PER_COPY]
            for position, row in zip(positions, rows.gather(positions), strict=True):
                writer.append(bytes.fromhex(hashes[position]), row)
    return len(firsts) * row_file.row_bytes


def _describe(experiment: Experiment, table: ImageTable) -> Pack:
    registry = experiment.context.registry
    chain = [
        {"preprocess": to_plain(step), "origin": provenance.component_origin(step, registry)}
        for step in experiment.preprocess
    ]
    decoded = table.decoded if table.chain else DecodeInfo(experiment.dataset.decode, len(chain))
    return Pack(
        classes=table.classes,
        ordered=table.ordered,
        samples=len(table),
        chain=(*table.chain, *chain),
        decode=decoded.mode,
        decoded_for=decoded.steps or 0,
        source={"name": experiment.name, "dataset": experiment.dataset.use, "id": experiment.id},
    )
