"""Prepared pixels that are read from a file for each batch, and verified."""

from __future__ import annotations

import os
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.errors import DataError, Problem
from sightx.io import system

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]

_VECTORS = 256  # buffers that one call may fill; systems take 1024
_PIECE = 1_000_000  # bytes that are read before they are verified: they are still in the cache
_SHARE = 4_000_000  # bytes for which a thread is worth its while
_THREADS = 4  # memory is no faster with more


class RowReader:
    """Read rows of one shape, (C, H, W), from a file; `crcs` has the CRC-32 of each.

    They are read by `preadv`, not mapped: of a file that somebody has cut, a mapping would end
    the process. What `keep` is lives as long as the pixels do.
    """

    is_in_memory = False

    def __init__(
        self, file: Path, shape: tuple[int, int, int], crcs: Array, keep: object = None
    ) -> None:
        self.file, self.shape, self.crcs = file, shape, crcs
        self._size = int(np.prod(shape))
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._threads = min(system.cpu_count(), _THREADS)
        self._pool = ThreadPoolExecutor(self._threads, "sightx-read")  # none starts unasked
        self._keep = keep
        weakref.finalize(self, os.close, self._descriptor)

    def __reduce__(self) -> tuple[type[RowReader], tuple[Any, ...]]:
        """Travel to another process as a file to open there; a lock stays with who holds it."""
        return RowReader, (self.file, self.shape, self.crcs)

    def read(self, positions: Array, out: Tensor | None = None) -> Tensor:
        """Return rows in the order of their positions, uint8 (len(positions), C, H, W).

        `out` must lie in memory, without gaps. Raises DataError for a row that is damaged.
        """
        import torch

        if out is None:
            out = torch.empty((len(positions), *self.shape), dtype=torch.uint8)
        bad = self._read(positions, out)
        if bad.any():
            raise self._failure(int(positions[bad][0]))
        return out

    def damaged(self, positions: Array) -> Array:
        """Say of each row whether it is damaged, bool (len(positions),)."""
        import torch

        found = np.zeros(len(positions), bool)
        step = max(self._threads * _SHARE // self._size, 1)
        room = torch.empty((step, *self.shape), dtype=torch.uint8)
        for start in range(0, len(positions), step):
            some = positions[start : start + step]
            found[start : start + step] = self._read(some, room[: len(some)])
        return found

    def _read(self, positions: Array, out: Tensor) -> Array:
        """Read rows in the order of the file; say of each whether it is damaged."""
        bad = np.zeros(len(positions), bool)
        if not len(positions):
            return bad
        data = out.numpy().data.cast("B")
        order = np.argsort(positions, kind="stable")
        shares = max(1, min(self._threads, len(data) // _SHARE))
        some = partial(self._read_some, positions, data, bad)
        if shares == 1:
            some(order)
        else:
            list(self._pool.map(some, np.array_split(order, shares)))
        return bad

    def _read_some(self, positions: Array, data: memoryview, bad: Array, order: Array) -> None:
        size, crcs = self._size, self.crcs[positions].tolist()
        for run in _runs(positions, order, max(min(_PIECE // size, _VECTORS), 1)):
            rows = [data[place * size : place * size + size] for place in run]
            got = os.preadv(self._descriptor, rows, int(positions[run[0]]) * size)
            for number, (place, row) in enumerate(zip(run, rows, strict=True), start=1):
                bad[place] = number * size > got or zlib.crc32(row) != crcs[place]

    def _failure(self, position: int) -> DataError:
        message = f"prepared row {position} is damaged"
        hint = "sightx prepare SPEC mends the store; a pack must be written again"
        return DataError(Problem("damaged-row", message, hint, file=str(self.file)))


def _runs(positions: Array, order: Array, most: int) -> list[list[int]]:
    """Return places in order, cut into runs of positions that follow one another."""
    gaps = np.flatnonzero(np.diff(positions[order]) != 1) + 1
    runs = [run.tolist() for run in np.split(order, gaps)]
    return [run[at : at + most] for run in runs for at in range(0, len(run), most)]
