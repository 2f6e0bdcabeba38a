"""A shelf: prepared images of one shape in a folder, appended and never changed.

    about.json   what the rows are; `shape` is (C, H, W)
    rows.bin     uint8 rows, one after another
    index.bin    a record a row: SHA-256 of the image's content, CRC-32 of the row

A row is on the disk before the record that names it, so what a crash leaves begins with a valid
shelf, and who fills it next cuts the rest. Of two records of one content the later counts.
"""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sightx.data.cache.row_reader import RowReader
from sightx.errors import DataError, Problem, ResourceError
from sightx.io import system
from sightx.records.hashes import HASH, Hashes

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1

RECORD = np.dtype([("digest", HASH), ("crc", "<u4")])
ABOUT, ROWS, INDEX = "about.json", "rows.bin", "index.bin"
_BATCH, _SECONDS = 64_000_000, 5.0  # bytes of rows, or time, after which they are made to last
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RowFile:
    """Find rows in a folder; `about` says what they are, `shape` is that of one row."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, about
        channels, height, width = about["shape"]
        self.shape = (int(channels), int(height), int(width))
        self.size = int(np.prod(self.shape))
        raw = (folder / INDEX).read_bytes()
        whole = (folder / ROWS).stat().st_size // self.size
        records = np.frombuffer(raw, RECORD, min(len(raw) // RECORD.itemsize, whole))
        self._digests, self._crcs = records["digest"].copy(), records["crc"].copy()
        self._order = np.argsort(self._digests, kind="stable")

    @classmethod
    def create(cls, folder: Path, about: Mapping[str, Any]) -> RowFile:
        """Make a folder with an empty shelf; `about` needs a `shape`.

        Raises FileExistsError where the folder is there, ResourceError where it cannot be made.
        """
        with cache_disk_errors(folder):
            folder.mkdir(parents=True)
            with (folder / ABOUT).open("w") as file:
                json.dump({"format": FORMAT, **about}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            for name in (ROWS, INDEX):
                (folder / name).touch()
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> RowFile:
        """Return the shelf that a folder is. Raises DataError where it is none."""
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            if about["format"] == FORMAT:
                return cls(folder, about)
            reason = f"its format is {about['format']}, and {FORMAT} is known here"
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
        except (ValueError, TypeError, KeyError):
            reason = f"{ABOUT} is damaged"
        message = f"is no folder of prepared pixels: {reason}"
        raise DataError(Problem("bad-cache", message, "remove it", file=str(folder)))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._digests)

    @property
    def digests(self) -> Hashes:
        """Return the SHA-256 of the content that each row was made of, in order."""
        return Hashes(self._digests)

    def rows(self, digests: Hashes) -> np.ndarray[Any, Any]:
        """Return the row of each content, int64 (N,); -1 where there is none."""
        if not len(self):
            return np.full(len(digests), -1)
        after = np.searchsorted(self._digests, digests.raw, side="right", sorter=self._order)
        found = self._order[after - 1]
        there = (self._digests[found] == digests.raw) & (digests.raw != b"")
        return np.where(there, found, -1)

    def pixels(self, keep: object = None) -> RowReader:
        """Return the rows as pixels; what `keep` is lives as long as they do."""
        return RowReader(self.folder / ROWS, self.shape, self._crcs, keep)

    def filling(self) -> RowWriter:
        """Return a writer: only one at a time, and who wants to see its rows opens again."""
        return RowWriter(self)


class RowWriter:
    """Append rows to a shelf; they are made to last in batches, while others are made.

    A context, which commits what was appended, whatever happens. Raises ResourceError where the
    disk refuses.
    """

    def __init__(self, shelf: RowFile) -> None:
        self._folder, self._size = shelf.folder, shelf.size
        self._records: list[bytes] = []
        self._since = time.monotonic()
        self._committed: Future[None] | None = None
        with cache_disk_errors(self._folder):
            self._rows = _appending(shelf.folder / ROWS, len(shelf) * self._size)
            self._index = _appending(shelf.folder / INDEX, len(shelf) * RECORD.itemsize)
        self._thread = ThreadPoolExecutor(1, "sightx-commit")

    def __enter__(self) -> Self:
        return self

    def append(
        self, digest: bytes, row: Tensor | np.ndarray[Any, Any], crc: int | None = None
    ) -> None:
        """Write a uint8 row (C, H, W); `digest` is the SHA-256 of what it was made of.

        `crc` is the row's CRC-32, where it is known already.
        """
        data = np.ascontiguousarray(row).data.cast("B")
        with cache_disk_errors(self._folder):
            _write(self._rows, data)
        crc = zlib.crc32(data) if crc is None else crc
        self._records.append(digest + crc.to_bytes(4, "little"))
        late = time.monotonic() - self._since > _SECONDS
        if late or len(self._records) * self._size >= _BATCH:
            self.commit()

    def commit(self) -> None:
        """Begin to make rows last that were appended; wait for those of the commit before."""
        self.wait()
        if not self._records:
            return
        records, self._records = b"".join(self._records), []
        self._since = time.monotonic()
        self._committed = self._thread.submit(self._commit, records)

    def wait(self) -> None:
        """Wait until all rows that were committed last."""
        if self._committed:
            with cache_disk_errors(self._folder):
                self._committed.result()

    def _commit(self, records: bytes) -> None:
        os.fsync(self._rows)
        _write(self._index, memoryview(records))
        os.fsync(self._index)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            # A disk that refuses a row is no reason to lose those before it.
            with suppress(*([ResourceError] if error else [])):
                self.commit()
                self.wait()
        finally:
            self._thread.shutdown()
            os.close(self._rows)
            os.close(self._index)


def _appending(file: Path, size: int) -> int:
    """Open a file of whole records for more; what a crash has left behind them is cut."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    os.ftruncate(descriptor, size)
    os.lseek(descriptor, 0, os.SEEK_END)
    return descriptor


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextmanager
def cache_disk_errors(folder: Path) -> Iterator[None]:
    """Turn what a disk refuses into a ResourceError of one line."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        full = error.errno in _FULL
        free = f", {system.format_bytes(system.free_space(folder))} free" if full else ""
        message = f"cannot write prepared pixels in {folder}: {error.strerror}{free}"
        hint = "let SIGHTX_CACHE name another folder, or execution.cache be off"
        raise ResourceError(Problem("disk-full" if full else "no-cache", message, hint)) from error
