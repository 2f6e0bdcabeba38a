"""What is known about a table's files without reading them: their state, and earlier hashes."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sightx.data.preprocess import failure_reason
from sightx.io import locks
from sightx.io.files import FileFinder
from sightx.records.hashes import HASH, Hashes
from sightx.records.table import ImageTable

_STATE = np.dtype([("path", "<u8"), ("size", "<i8"), ("time", "<i8"), ("inode", "<u8")])
_RECORD = np.dtype([("state", _STATE), ("digest", HASH)])
_CLOCK_STEP = 2_000_000_000
"""Nanoseconds for which the clock of a file system may stand still: a file that was changed within
them can change again and still show the same time."""
_BATCH = 4096  # records that are written at once


class FileStates(NamedTuple):
    """The states of a table's files at one moment.

    `states` has one record per row; it is empty if the table is not read from files. `errors` says
    for some rows why there is no file; `seen` is the moment, in nanoseconds since 1970.
    """

    states: np.ndarray[Any, Any]
    errors: dict[int, str]
    seen: int


def stat_files(table: ImageTable) -> FileStates:
    """Stat every file of a table; none is opened."""
    reader = table.files
    files = FileStates(np.zeros(len(table) if reader else 0, _STATE), {}, time.time_ns())
    if reader is None:
        return files
    find, paths = FileFinder(reader.root), np.asarray(reader.paths, object)
    files.states["path"] = pd.util.hash_array(paths, categorize=False)
    sizes, times, inodes = (files.states[key] for key in ("size", "time", "inode"))
    for index, path in enumerate(paths):
        try:
            status = find(path)
        except OSError as error:
            files.errors[index] = failure_reason(error)
        else:
            sizes[index], times[index] = status.st_size, status.st_mtime_ns
            inodes[index] = status.st_ino
    return files


class FileHashCache:
    """Remember the hashes of files: a file whose state is unchanged is not read again.

    There is one file of records per root folder. It is only a cache: nothing is lost if it cannot
    be written, or is removed.
    """

    def __init__(self, folder: Path, table: ImageTable, files: FileStates) -> None:
        self._table, self._files, reader = table, files, table.files
        self._root, paths = (reader.root, reader.paths) if reader else ("", ())
        self._paths = np.asarray(paths, object)
        self._file = folder / f"{hashlib.sha256(self._root.encode()).hexdigest()[:16]}.bin"
        self._new: list[tuple[int, bytes]] = []

    def known(self) -> Hashes:
        """Return the hash of each image that is known, from the dataset or from earlier reading."""
        if self._table.hashes is not None:
            return Hashes(self._table.hashes.raw.copy())
        hashes, states, records = Hashes.unknown(len(self._table)), self._files.states, self._read()
        if not len(records) or not len(states):
            return hashes
        paths = records["state"]["path"].copy()
        order = np.argsort(paths, kind="stable")  # of two records for one path the later counts
        last = order[np.searchsorted(paths, states["path"], side="right", sorter=order) - 1]
        unchanged = records["state"][last] == states
        hashes.raw[unchanged] = records["digest"][last[unchanged]]
        return hashes

    def add(self, index: int, digest: bytes) -> None:
        """Remember the hash of a row's file that was just read, if its state is sure.

        The state must be what it was before reading, and older than the resolution of the clock.
        """
        if not len(self._files.states):
            return
        _, size, changed, inode = self._files.states[index].item()
        if changed > self._files.seen - _CLOCK_STEP:
            return
        with suppress(OSError):
            now = Path(self._root, self._paths[index]).stat()
            if (now.st_size, now.st_mtime_ns, now.st_ino) == (size, changed, inode):
                self._new.append((index, digest))
        if len(self._new) >= _BATCH:
            self.write()

    def write(self) -> None:
        """Append the new hashes to the file."""
        if not self._new:
            return
        rows, digests = zip(*self._new, strict=True)
        self._new = []
        records = np.zeros(len(rows), _RECORD)
        records["state"] = self._files.states[list(rows)]
        records["digest"] = Hashes.from_bytes(digests).raw
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if lock := locks.exclusive_lock(self._file, create=True, wait=True):
                with lock, self._file.open("ab") as file:
                    size = file.tell()
                    file.truncate(size - size % _RECORD.itemsize)  # a writer may have been killed
                    file.write(records.tobytes())

    def _read(self) -> np.ndarray[Any, Any]:
        try:
            content = self._file.read_bytes()
        except OSError:
            return np.zeros(0, _RECORD)
        return np.frombuffer(content, _RECORD, len(content) // _RECORD.itemsize)
