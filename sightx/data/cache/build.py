"""Fill the store with what a table needs: what is there already is not made again."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sightx.data.cache.hashes import FileHashCache
from sightx.data.cache.row_file import RowFile
from sightx.data.cache.store import PixelCache
from sightx.data.preprocess import PreprocessedImage, Preprocessor, ProgressCallback
from sightx.errors import Problem, ResourceError
from sightx.io import system
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PreprocessedPixels:
    """Hold prepared pixels, the hash of each image's content, and why some have none.

    `bad` maps the positions of images that cannot be used to the reason. `made` says how many
    rows were made just now, `damaged` how many of those took the place of a damaged one.
    """

    rows: PixelRows
    digests: Hashes
    bad: dict[int, str] = field(default_factory=dict)
    made: int = 0
    damaged: int = 0


def build_cache(
    maker: Preprocessor,
    known: FileHashCache,
    store: PixelCache,
    about: Mapping[str, Any],
    *,
    threads: int = 0,
    progress: ProgressCallback | None = None,
    verify: bool = False,
) -> PreprocessedPixels:
    """Return the rows of a table's images from the store, after those that are missing are made.

    The result, and the files, do not depend on the number of threads. `progress` hears (done, of)
    in the thread that calls; an interrupt loses a few rows. With `verify` every row that is there
    is read, and a damaged one made again. Raises ResourceError where the store cannot take them.
    """
    filler, heard = _Fill(maker, known, store, about), progress or (lambda done, of: None)
    filler.fill(threads, heard)
    if verify and filler.damaged():
        filler.fill(threads, heard)
    return filler.prepared()


class _Fill:
    def __init__(
        self, maker: Preprocessor, known: FileHashCache, store: PixelCache, about: Mapping[str, Any]
    ) -> None:
        self._maker, self._known, self._store = maker, known, store
        self._shelf, self._lock = store.use(about)
        self._digests = known.digests()
        self._damaged = np.zeros(0, int)
        self._bad = dict[int, str]()
        self._written = set[bytes]()
        self._made = 0

    def prepared(self) -> PreprocessedPixels:
        """Return what is there now."""
        rows = PixelRows(self._shelf.pixels(self._lock), self._rows())
        bad = dict(sorted(self._bad.items()))
        return PreprocessedPixels(rows, self._digests, bad, self._made, len(self._damaged))

    def damaged(self) -> bool:
        """Look at every row that the table needs; say whether there are some to be made again."""
        rows = np.unique(self._rows())
        rows = rows[rows >= 0]
        self._damaged = rows[self._shelf.pixels().damaged(rows)]
        return len(self._damaged) > 0

    def fill(self, threads: int, progress: ProgressCallback) -> None:
        """Make what is missing, as the one process that does."""
        if not len(missing := self._missing()):
            return
        if not os.access(self._shelf.folder, os.W_OK):
            self._look(missing, threads, progress)
            return
        with self._store.filling(self._shelf, lambda: progress(0, len(missing))):
            before = len(self._shelf)
            self._reopen()
            if len(self._shelf) > before:  # another process made what was missing here
                self._digests = self._known.digests()
            missing = self._missing()
            self._require(missing)
            try:
                self._make(missing, threads, progress)
            finally:
                self._known.write()
        self._reopen()

    def _make(self, missing: Array, threads: int, progress: ProgressCallback) -> None:
        maker, self._written = replace(self._maker, wanted=self._wanted), set()
        read = self._read(maker, missing, threads, progress)
        with self._shelf.filling() as shelf, closing(read):
            for made in read:
                if made.row is not None and made.digest not in self._written:
                    shelf.append(made.digest, made.row, made.crc)
                    self._written.add(made.digest)
        self._made += len(self._written)

    def _look(self, missing: Array, threads: int, progress: ProgressCallback) -> None:
        """Find what is there in a store that cannot be written. Raises ResourceError."""
        reader = replace(self._maker, wanted=lambda digest: False)
        for _ in self._read(reader, missing, threads, progress):
            pass
        if lacking := len(set(self._missing().tolist()) - set(self._bad)):
            message = f"{self._store.root} is read-only and lacks {lacking} prepared images"
            hint = "let SIGHTX_CACHE name a folder that can be written"
            raise ResourceError(Problem("no-cache", message, hint))

    def _read(
        self, maker: Preprocessor, missing: Array, threads: int, progress: ProgressCallback
    ) -> Generator[PreprocessedImage, None, None]:
        """Yield what is made of images, in order; learn what each holds, or why it is bad."""
        with closing(maker.all(missing, threads)) as images:
            for done, made in enumerate(images, start=1):
                if made.reason:
                    self._bad[made.index] = made.reason
                else:
                    self._digests.raw[made.index] = made.digest
                    self._known.note(made.index, made.digest)
                yield made
                progress(done, len(missing))

    def _wanted(self, digest: bytes) -> bool:
        row = self._shelf.rows(Hashes.from_bytes([digest]))[0]
        there = row >= 0 and row not in self._damaged
        return not there and digest not in self._written

    def _rows(self) -> Array:
        rows = self._shelf.rows(self._digests)
        return np.where(np.isin(rows, self._damaged), -1, rows) if len(self._damaged) else rows

    def _missing(self) -> Array:
        return np.flatnonzero(self._rows() < 0)

    def _reopen(self) -> None:
        self._shelf = RowFile.open(self._shelf.folder)

    def _require(self, missing: Array) -> None:
        """Raise ResourceError where the disk has no room for what is sure to be made.

        An image of which nothing is known may turn out to be in a row of the shelf.
        """
        unknown = int((self._digests.raw[missing] == b"").sum())
        spare = len(self._shelf) - int((self._rows() >= 0).sum())
        need = (len(missing) - min(unknown, max(spare, 0))) * self._shelf.size
        free = system.free_space(self._shelf.folder)
        if need > free:
            message = f"prepared pixels need {system.format_bytes(need)}, "
            message += f"{self._store.root} has {system.format_bytes(free)} free"
            hint = "let SIGHTX_CACHE name a larger disk, or prepare a smaller size"
            raise ResourceError(Problem("disk-full", message, hint))
