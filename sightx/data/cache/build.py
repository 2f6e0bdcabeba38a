"""Build the pixel cache: decode, preprocess and append the images that it lacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sightx.data.cache.file_hashes import FileHashCache
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
    """The preprocessed pixels of a table's images.

    `hashes` are those of the images' contents. `bad` maps the positions of images that cannot be
    used to the reason. `built` is the number of rows that were built now, `damaged` how many of
    them replace a damaged row.
    """

    rows: PixelRows
    hashes: Hashes
    bad: dict[int, str] = field(default_factory=dict)
    built: int = 0
    damaged: int = 0


def build_cache(
    preprocessor: Preprocessor,
    file_hashes: FileHashCache,
    cache: PixelCache,
    about: Mapping[str, Any],
    *,
    threads: int = 0,
    progress: ProgressCallback | None = None,
    verify: bool = False,
) -> PreprocessedPixels:
    """Return the rows of a table's images from the cache, after the missing ones are built.

    Neither the result nor the files depend on the number of threads. `progress` is called in the
    calling thread; an interrupt loses only a few rows. With `verify` every existing row is read,
    and a damaged one built again. Raises ResourceError if the cache cannot hold the rows.
    """
    build, report = (
        _Build(preprocessor, file_hashes, cache, about),
        progress or (lambda done, total: None),
    )
    build.add_missing(threads, report)
    if verify and build.find_damaged():
        build.add_missing(threads, report)
    return build.result()


class _Build:
    def __init__(
        self,
        preprocessor: Preprocessor,
        file_hashes: FileHashCache,
        cache: PixelCache,
        about: Mapping[str, Any],
    ) -> None:
        self._preprocessor, self._file_hashes, self._cache = preprocessor, file_hashes, cache
        self._row_file, self._lock = cache.open(about)
        self._hashes = file_hashes.known()
        self._damaged = np.zeros(0, int)  # rows
        self._bad = dict[int, str]()
        self._built = 0

    def result(self) -> PreprocessedPixels:
        rows = PixelRows(self._row_file.reader(self._lock), self._rows())
        bad = dict(sorted(self._bad.items()))
        return PreprocessedPixels(rows, self._hashes, bad, self._built, len(self._damaged))

    def find_damaged(self) -> bool:
        """Read every row that the table needs; return whether some are damaged."""
        rows = np.unique(self._rows())
        rows = rows[rows >= 0]
        self._damaged = rows[self._row_file.reader().find_damaged(rows)]
        return len(self._damaged) > 0

    def add_missing(self, threads: int, progress: ProgressCallback) -> None:
        """Build the missing rows, in one process at a time."""
        if not len(missing := self._missing()):
            return
        if not os.access(self._row_file.folder, os.W_OK):
            self._look_up(missing, threads, progress)
            return
        with self._cache.build_lock(self._row_file, lambda: progress(0, len(missing))):
            before = len(self._row_file)
            self._reopen()
            if len(self._row_file) > before:  # another process has built rows meanwhile
                self._hashes = self._file_hashes.known()
            missing = self._missing()
            self._require_space(missing)
            try:
                self._append(missing, threads, progress)
            finally:
                self._file_hashes.write()
        self._reopen()

    def _append(self, missing: Array, threads: int, progress: ProgressCallback) -> None:
        written = set[bytes]()

        def is_needed(digest: bytes) -> bool:
            row = self._row_file.find(Hashes.from_bytes([digest]))[0]
            is_there = row >= 0 and row not in self._damaged
            return not is_there and digest not in written

        images = self._process(missing, is_needed, threads, progress)
        with self._row_file.writer() as writer, closing(images):
            for image in images:
                if image.row is not None and image.digest not in written:
                    writer.append(image.digest, image.row, image.crc)
                    written.add(image.digest)
        self._built += len(written)

    def _look_up(self, missing: Array, threads: int, progress: ProgressCallback) -> None:
        """Hash the images, whose rows a read-only cache must have. Raises ResourceError."""
        for _ in self._process(missing, lambda digest: False, threads, progress):
            pass
        if lacking := len(set(self._missing().tolist()) - set(self._bad)):
            message = f"{self._cache.root} is read-only and lacks {lacking} preprocessed images"
            hint = "let SIGHTX_CACHE name a folder that can be written"
            raise ResourceError(Problem("no-cache", message, hint))

    def _process(
        self,
        missing: Array,
        is_needed: Callable[[bytes], bool],
        threads: int,
        progress: ProgressCallback,
    ) -> Generator[PreprocessedImage, None, None]:
        """Yield the results for images in order; remember their hashes, and why some are bad."""
        preprocessor = replace(self._preprocessor, is_needed=is_needed)
        with closing(preprocessor.process_all(missing, threads)) as images:
            for done, image in enumerate(images, start=1):
                if image.reason:
                    self._bad[image.index] = image.reason
                else:
                    self._hashes.raw[image.index] = image.digest
                    self._file_hashes.add(image.index, image.digest)
                yield image
                progress(done, len(missing))

    def _rows(self) -> Array:
        """Return the row of each image; -1 if it is missing or damaged."""
        rows = self._row_file.find(self._hashes)
        return np.where(np.isin(rows, self._damaged), -1, rows) if len(self._damaged) else rows

    def _missing(self) -> Array:
        return np.flatnonzero(self._rows() < 0)

    def _reopen(self) -> None:
        self._row_file = RowFile.open(self._row_file.folder)

    def _require_space(self, missing: Array) -> None:
        """Raise ResourceError if the disk has no room for the rows that are sure to be built.

        An image whose hash is unknown may turn out to have a row already.
        """
        unknown = int((self._hashes.raw[missing] == b"").sum())
        unused = len(self._row_file) - int((self._rows() >= 0).sum())
        need = (len(missing) - min(unknown, max(unused, 0))) * self._row_file.row_bytes
        free = system.free_space(self._row_file.folder)
        if need > free:
            message = (
                f"preprocessed pixels need {system.format_bytes(need)}, "
                f"{self._cache.root} has {system.format_bytes(free)} free"
            )
            hint = "let SIGHTX_CACHE name a larger disk, or preprocess to a smaller size"
            raise ResourceError(Problem("disk-full", message, hint))
