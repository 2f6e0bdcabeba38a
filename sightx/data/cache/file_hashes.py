"""What is known about a table's files without reading them: their state, and earlier hashes."""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sightx.data.preprocess import failure_reason
from sightx.io import locks
from sightx.io.files import FileFinder
from sightx.records.hashes import HASH, Hashes
from sightx.records.table import ImageTable

_STATE = np.dtype(
    [("path", "<u8"), ("size", "<i8"), ("time", "<i8"), ("changed", "<i8"), ("inode", "<u8")]
)
_RECORD = np.dtype([("state", _STATE), ("digest", HASH)])
_CLOCK_STEP = 2_000_000_000
"""Nanoseconds for which the clock of a file system may stand still: a file that was changed within
them can change again and still show the same time."""
_CHANGE_STEP = 50_000_000
"""The same for the time of change, which only the kernel sets."""
_BATCH = 4096  # records that are written at once
_HEADER = b"SightX hashes 1\n"
_NAME = re.compile(r"[0-9a-f]{16}\.bin")


class FileStates(NamedTuple):
    """The states of a table's files at one moment.

    `states` has one record per row; it is empty if the table is not read from files. `errors` has
    the reason for each row whose file is missing; `seen` is the moment, in nanoseconds since 1970.
    """

    states: np.ndarray[Any, Any]
    errors: dict[int, str]
    seen: int


def stat_files(table: ImageTable) -> FileStates:
    """Stat every file of a table; none is opened."""
    from pandas.util import hash_array

    reader = table.files
    files = FileStates(np.zeros(len(table) if reader else 0, _STATE), {}, time.time_ns())
    if reader is None:
        return files
    find = FileFinder(reader.root, follow_links=reader.follow_links)
    paths = np.asarray(reader.paths, object)
    files.states["path"] = hash_array(paths, categorize=False)
    columns = [files.states[key] for key in ("size", "time", "changed", "inode")]
    for index, path in enumerate(paths):
        try:
            status = find(path)
        except OSError as error:
            files.errors[index] = failure_reason(error)
        else:
            for column, value in zip(columns, _state(status), strict=True):
                column[index] = value
    return files


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes with a file's content.

    The time of change (ctime) cannot be set, so that it tells a file whose size and time of
    modification were kept.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_hash_file(file: Path) -> bool:
    """Return whether a file has the name and the header of a file of hashes."""
    if not _NAME.fullmatch(file.name) or file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(_HEADER)) == _HEADER


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
        order = np.argsort(paths, kind="stable")  # the last record of a path is used
        last = order[np.searchsorted(paths, states["path"], side="right", sorter=order) - 1]
        unchanged = records["state"][last] == states
        hashes.raw[unchanged] = records["digest"][last[unchanged]]
        return hashes

    def add(self, index: int, digest: bytes) -> None:
        """Remember the hash of a row's file that was just read, if its state is reliable.

        The state must be what it was before reading, and older than the resolution of the clock.
        """
        if not len(self._files.states):
            return
        _, *state = self._files.states[index].item()
        _, modified, changed, _ = state
        seen = self._files.seen
        if modified > seen - _CLOCK_STEP or changed > seen - _CHANGE_STEP:
            return
        with suppress(OSError):
            if _state(Path(self._root, self._paths[index]).stat()) == tuple(state):
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
                    if not file.tell():
                        file.write(_HEADER)
                    elif not is_hash_file(self._file):
                        return  # it was written by something else
                    size = file.tell() - len(_HEADER)
                    # A writer may have been killed.
                    file.truncate(file.tell() - size % _RECORD.itemsize)
                    file.write(records.tobytes())

    def _read(self) -> np.ndarray[Any, Any]:
        try:
            content = self._file.read_bytes()
        except OSError:
            content = b""
        if not content.startswith(_HEADER):
            return np.zeros(0, _RECORD)
        count = (len(content) - len(_HEADER)) // _RECORD.itemsize
        return np.frombuffer(content, _RECORD, count, len(_HEADER))
