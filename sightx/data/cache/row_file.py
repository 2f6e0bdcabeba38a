"""A file of preprocessed images of one shape, in a folder; rows are appended and never changed.

    about.json   what the rows are; `shape` is (C, H, W)
    rows.bin     uint8 rows, one after another
    index.bin    one record per row: SHA-256 of the image's content, CRC-32 of the row

A row is on the disk before the record that names it, so that a crash leaves a valid file with
excess bytes at the end, which the next writer truncates. If an image has two records, the last one
is used.
"""

from __future__ import annotations

import json
import os
import time
import weakref
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sightx.errors import DataError, Problem, ResourceError
from sightx.io import atomic, system
from sightx.records.hashes import HASH, Hashes

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]

FORMAT = 1
RECORD = np.dtype([("digest", HASH), ("crc", "<u4")])
ABOUT, ROWS, INDEX = "about.json", "rows.bin", "index.bin"

_COMMIT_BYTES, _COMMIT_SECONDS = 64_000_000, 5.0  # whichever is reached first
_VECTORS = 256  # buffers per preadv call; systems allow 1024
_VERIFY_BYTES = 1_000_000  # read before they are verified, so that they are still in the CPU cache
_BYTES_PER_THREAD = 4_000_000  # below this a thread costs more than it saves
_READ_THREADS = 4  # more do not make memory faster


class RowFile:
    """The rows of a folder; `about` describes them, `shape` is that of one row."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, about
        channels, height, width = about["shape"]
        self.shape = (int(channels), int(height), int(width))
        self.row_bytes = int(np.prod(self.shape))
        index = (folder / INDEX).read_bytes()
        complete = (folder / ROWS).stat().st_size // self.row_bytes
        records = np.frombuffer(index, RECORD, min(len(index) // RECORD.itemsize, complete))
        self._hashes, self._crcs = records["digest"].copy(), records["crc"].copy()
        self._order = np.argsort(self._hashes, kind="stable")

    @classmethod
    def create(cls, folder: Path, about: Mapping[str, Any]) -> RowFile:
        """Make a folder without rows; `about` needs a `shape`.

        Raises ResourceError if it exists or cannot be made.
        """
        with cache_errors(folder):
            folder.mkdir(parents=True)
            content = json.dumps({"format": FORMAT, **about}, indent=1)
            atomic.write(folder / ABOUT, content.encode())
            for name in (ROWS, INDEX):
                (folder / name).touch()
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> RowFile:
        """Open a folder of rows. Raises DataError if it is not one."""
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            if about["format"] == FORMAT:
                return cls(folder, about)
            reason = f"its format is {about['format']}, and this SightX knows {FORMAT}"
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
        except (ValueError, TypeError, KeyError):
            reason = f"{ABOUT} is damaged"
        message = f"is not a folder of preprocessed pixels: {reason}"
        raise DataError(Problem("bad-cache", message, "remove it", file=str(folder)))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._hashes)

    @property
    def hashes(self) -> Hashes:
        """Return the SHA-256 of the image that each row was made of, in order."""
        return Hashes(self._hashes)

    def find(self, hashes: Hashes) -> Array:
        """Return the row of each image, int64 (N,); -1 if there is none."""
        if not len(self):
            return np.full(len(hashes), -1)
        after = np.searchsorted(self._hashes, hashes.raw, side="right", sorter=self._order)
        rows = self._order[after - 1]  # -1, the last row, is refused by the comparison below
        is_there = (self._hashes[rows] == hashes.raw) & (hashes.raw != b"")
        return np.where(is_there, rows, -1)

    def reader(self, keep: object = None) -> RowReader:
        """Return the rows as pixels; they keep the object `keep`, such as a lock, alive."""
        return RowReader(self.folder / ROWS, self.shape, self._crcs, keep)

    def writer(self) -> RowWriter:
        """Return the writer: only one at a time, and its rows are seen after opening again."""
        return RowWriter(self)


class RowReader:
    """Read rows of one shape (C, H, W) from a file, and verify each by its CRC-32 in `crcs`.

    Rows are read by `preadv` rather than mapped: if somebody truncated the file, a mapping would
    kill the process. The object `keep` lives as long as the reader.
    """

    is_in_memory = False

    def __init__(
        self, file: Path, shape: tuple[int, int, int], crcs: Array, keep: object = None
    ) -> None:
        self.file, self.shape, self.crcs = file, shape, crcs
        self._row_bytes = int(np.prod(shape))
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._threads = min(system.cpu_count(), _READ_THREADS)
        self._pool = ThreadPoolExecutor(self._threads, "sightx-read")  # starts threads when used
        self._keep = keep
        weakref.finalize(self, os.close, self._descriptor)

    def __reduce__(self) -> tuple[type[RowReader], tuple[Any, ...]]:
        """Open the file again in another process; a lock stays with its holder."""
        return RowReader, (self.file, self.shape, self.crcs)

    def read(self, positions: Array, out: Tensor | None = None) -> Tensor:
        """Return rows, uint8 (len(positions), C, H, W), in the order of `positions`.

        `out` must be contiguous and in memory. Raises DataError for a damaged row.
        """
        import torch

        if out is None:
            out = torch.empty((len(positions), *self.shape), dtype=torch.uint8)
        is_damaged = self._read(positions, out)
        if is_damaged.any():
            message = f"preprocessed row {positions[is_damaged][0]} is damaged"
            hint = "sightx prepare SPEC fixes the cache; a pack must be written again"
            raise DataError(Problem("damaged-row", message, hint, file=str(self.file)))
        return out

    def find_damaged(self, positions: Array) -> Array:
        """Read rows and return whether each is damaged, bool (len(positions),)."""
        import torch

        is_damaged = np.zeros(len(positions), bool)
        step = max(self._threads * _BYTES_PER_THREAD // self._row_bytes, 1)
        buffer = torch.empty((step, *self.shape), dtype=torch.uint8)
        for start in range(0, len(positions), step):
            block = positions[start : start + step]
            is_damaged[start : start + step] = self._read(block, buffer[: len(block)])
        return is_damaged

    def _read(self, positions: Array, out: Tensor) -> Array:
        """Read rows in the order of the file; return whether each is damaged."""
        is_damaged = np.zeros(len(positions), bool)
        if not len(positions):
            return is_damaged
        data = out.numpy().data.cast("B")
        order = np.argsort(positions, kind="stable")
        threads = max(1, min(self._threads, len(data) // _BYTES_PER_THREAD))
        read = partial(self._read_in_order, positions, data, is_damaged)
        if threads == 1:
            read(order)
        else:
            list(self._pool.map(read, np.array_split(order, threads)))
        return is_damaged

    def _read_in_order(
        self, positions: Array, data: memoryview, is_damaged: Array, order: Array
    ) -> None:
        size, crcs = self._row_bytes, self.crcs[positions].tolist()
        for run in _consecutive(positions, order, max(min(_VERIFY_BYTES // size, _VECTORS), 1)):
            rows = [data[place * size : place * size + size] for place in run]
            count = os.preadv(self._descriptor, rows, int(positions[run[0]]) * size)
            for number, (place, row) in enumerate(zip(run, rows, strict=True), start=1):
                is_damaged[place] = number * size > count or zlib.crc32(row) != crcs[place]


def _consecutive(positions: Array, order: Array, limit: int) -> list[list[int]]:
    """Return `order` in runs of at most `limit` whose positions are consecutive."""
    gaps = np.flatnonzero(np.diff(positions[order]) != 1) + 1
    runs = [run.tolist() for run in np.split(order, gaps)]
    return [run[at : at + limit] for run in runs for at in range(0, len(run), limit)]


class RowWriter:
    """Append rows; they are flushed to the disk in batches, while others are made.

    A context manager, which commits what was appended even if an error is raised. Raises
    ResourceError if the disk refuses.
    """

    def __init__(self, rows: RowFile) -> None:
        self._folder, self._row_bytes = rows.folder, rows.row_bytes
        self._records: list[bytes] = []
        self._since = time.monotonic()
        self._committed: Future[None] | None = None
        with cache_errors(self._folder):
            self._rows = _open_to_append(self._folder / ROWS, len(rows) * self._row_bytes)
            self._index = _open_to_append(self._folder / INDEX, len(rows) * RECORD.itemsize)
        self._thread = ThreadPoolExecutor(1, "sightx-commit")

    def __enter__(self) -> Self:
        return self

    def append(self, digest: bytes, row: Tensor | Array, crc: int | None = None) -> None:
        """Write a uint8 row (C, H, W).

        `digest` is the SHA-256 of the image that it was made of, `crc` the row's CRC-32; None
        means that it is computed here.
        """
        data = np.ascontiguousarray(row).data.cast("B")
        with cache_errors(self._folder):
            _write(self._rows, data)
        crc = zlib.crc32(data) if crc is None else crc
        self._records.append(digest + crc.to_bytes(4, "little"))
        is_late = time.monotonic() - self._since > _COMMIT_SECONDS
        if is_late or len(self._records) * self._row_bytes >= _COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Start to flush the rows that were appended; wait for the commit before."""
        self.wait()
        if not self._records:
            return
        records, self._records = b"".join(self._records), []
        self._since = time.monotonic()
        self._committed = self._thread.submit(self._commit, records)

    def wait(self) -> None:
        """Wait until all committed rows are on the disk."""
        if self._committed:
            with cache_errors(self._folder):
                self._committed.result()

    def _commit(self, records: bytes) -> None:
        atomic.fsync(self._rows)
        _write(self._index, memoryview(records))
        atomic.fsync(self._index)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            # If the disk refused a row, the rows before it are still worth keeping.
            with suppress(*([ResourceError] if error else [])):
                self.commit()
                self.wait()
        finally:
            self._thread.shutdown()
            os.close(self._rows)
            os.close(self._index)


def _open_to_append(file: Path, size: int) -> int:
    """Open a file to append to, and cut what a crash has left after `size` bytes."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    os.ftruncate(descriptor, size)
    os.lseek(descriptor, 0, os.SEEK_END)
    return descriptor


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def cache_errors(folder: Path) -> AbstractContextManager[None]:
    """Turn an OSError while the cache is used into a ResourceError of one line."""
    hint = "let SIGHTX_CACHE name another folder, or execution.cache be off"
    return atomic.disk_errors(
        folder, code="no-cache", full_code="disk-full", hint=hint, full_hint=hint
    )
