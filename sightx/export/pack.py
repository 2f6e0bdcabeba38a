"""Read packs: prepared pixels with the table of their samples, and how they were prepared.

A folder holds `pack.json` (see `Pack`), `index.csv` (a row a sample) and `pixels`, a shelf.
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
from sightx.data.csv_labels import require_folder
from sightx.errors import DataError, Problem
from sightx.export.index import (
    INDEX,
    Description,
    check_traits,
    index_frame,
    read_description,
    read_index,
    refuse_rows,
)
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.records.table import DecodeInfo, ImageTable
from sightx.registry.components import Traits

DESCRIPTION, PIXELS = "pack.json", "pixels"
_PACKED = "sightx prepare SPEC --pack DIR writes one"


class Pack(Description):
    """Say what lies in a pack.

    `chain` holds the table and the origin of each component of `preprocess`; `decode` is how
    images were decoded, for the first `decoded_for` components; `source` says what was packed.
    """

    chain: tuple[Mapping[str, Any], ...]
    decode: Literal["scaled", "exact"]
    decoded_for: NonNegativeInt
    source: Mapping[str, str]


def table_from_pack(root: Path, traits: Traits) -> ImageTable:
    """Return the table of a pack; no pixel is read.

    `traits` are what the spec says, and must be true of what was packed. Raises DataError.
    """
    folder = require_folder(root, "dataset.root", _PACKED)
    described = read_description(Pack, _content(folder, DESCRIPTION), str(folder / DESCRIPTION))
    source = str(folder / INDEX)
    cells = read_index(_content(folder, INDEX), described, (), source)
    shelf = RowFile.open(folder / PIXELS)
    rows = shelf.find(Hashes.from_hex(cells["sha256"]))
    refuse_rows(cells, pd.Series(rows < 0), source, "has no pixels")
    prepared = PixelRows(shelf.reader(), rows)
    table = ImageTable(
        index_frame(cells),
        described.classes,
        _Read(prepared),
        described.ordered,
        source,
        prepared=prepared,
        chain=described.chain,
        decoded=DecodeInfo(described.decode, described.decoded_for),
    )
    return check_traits(table, traits)


def _content(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        message = f"no pack is here, or its writing was not finished: {name}: {error.strerror}"
        raise DataError(Problem("missing-data", message, _PACKED, file=str(folder))) from error


@dataclass(frozen=True)
class _Read:
    """Read one image of a pack, uint8 (H, W, C)."""

    prepared: PixelRows

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        return self.prepared.gather(np.array([index]))[0].movedim(0, -1).numpy()
