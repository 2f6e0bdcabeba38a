"""What is known of a table's files without reading them: their state, and content read before."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sightx.data.preprocess import failure_reason
from sightx.io.files import FileFinder
from sightx.records.hashes import HASH, Hashes
from sightx.records.table import ImageTable

_STATE = np.dtype([("path", "<u8"), ("size", "<i8"), ("time", "<i8"), ("inode", "<u8")])
_RECORD = np.dtype([("state", _STATE), ("digest", HASH)])
_YOUNG = 2_000_000_000
"""Nanoseconds for which the clock of a file system may stand still: a file that was changed so
lately can change again, and show the same time."""
_MANY = 4096  # records that are written at once


class FileStates(NamedTuple):
    """Say in what state a table's files are, (N,), and why some rows have none.

    `seen` is when that was, in nanoseconds. A table has no states whose reader is not one of files.
    """

    states: np.ndarray[Any, Any]
    absent: dict[int, str]
    seen: int


def stat_files(table: ImageTable) -> FileStates:
    """Look at every file of a table; none is opened."""
    reader = table.files
    found = FileStates(np.zeros(len(table) if reader else 0, _STATE), {}, time.time_ns())
    if reader is None:
        return found
    find, paths = FileFinder(reader.root), np.asarray(reader.paths, object)
    found.states["path"] = pd.util.hash_array(paths, categorize=False)
    sizes, times, inodes = (found.states[key] for key in ("size", "time", "inode"))
    for index, path in enumerate(paths):
        try:
            there = find(path)
        except OSError as error:
            found.absent[index] = failure_reason(error)
        else:
            sizes[index], times[index] = there.st_size, there.st_mtime_ns
            inodes[index] = there.st_ino
    return found


class FileHashCache:
    """Remember what files hold, in one file for each root: a file of the same state is not read.

    Nothing is lost where it cannot be written, or where somebody removes it.
    """

    def __init__(self, folder: Path, table: ImageTable, files: FileStates) -> None:
        self._table, self._files, there = table, files, table.files
        self._home, paths = (there.root, there.paths) if there else ("", ())
        self._paths = np.asarray(paths, object)
        self._file = folder / f"{hashlib.sha256(self._home.encode()).hexdigest()[:16]}.bin"
        self._new: list[tuple[int, bytes]] = []

    def digests(self) -> Hashes:
        """Return the hash of each content that is known: by the dataset, or from an earlier day."""
        if self._table.hashes is not None:
            return Hashes(self._table.hashes.raw.copy())
        found, states = Hashes.unknown(len(self._table)), self._files.states
        records = self._records()
        if not len(records) or not len(states):
            return found
        paths = records["state"]["path"].copy()
        order = np.argsort(paths, kind="stable")  # of two of one path the later counts
        last = order[np.searchsorted(paths, states["path"], side="right", sorter=order) - 1]
        same = records["state"][last] == states
        found.raw[same] = records["digest"][last[same]]
        return found

    def note(self, index: int, digest: bytes) -> None:
        """Remember what a row's file holds that was just read, if it is sure to be in that state.

        Its state must be what it was before it was read, and older than the clock is coarse.
        """
        if not len(self._files.states):
            return
        _, size, changed, inode = self._files.states[index].item()
        if changed > self._files.seen - _YOUNG:
            return
        with suppress(OSError):
            now = Path(self._home, self._paths[index]).stat()
            if (now.st_size, now.st_mtime_ns, now.st_ino) == (size, changed, inode):
                self._new.append((index, digest))
        if len(self._new) >= _MANY:
            self.write()

    def write(self) -> None:
        """Append what is new to the file."""
        if not self._new:
            return
        rows, digests = zip(*self._new, strict=True)
        self._new = []
        records = np.zeros(len(rows), _RECORD)
        records["state"] = self._files.states[list(rows)]
        records["digest"] = Hashes.from_bytes(digests).raw
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = file.seek(0, os.SEEK_END)  # another may have written since it was opened
                file.truncate(size - size % _RECORD.itemsize)  # or was killed while it did
                file.write(records.tobytes())

    def _records(self) -> np.ndarray[Any, Any]:
        try:
            raw = self._file.read_bytes()
        except OSError:
            return np.zeros(0, _RECORD)
        return np.frombuffer(raw, _RECORD, len(raw) // _RECORD.itemsize)
