"""Properties of images: computed once per content, and kept next to the pixel cache."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sightx.audit.file_facts import FileFacts, read_facts
from sightx.audit.perceptual_hash import SIZE as HASHED_SIZE
from sightx.audit.perceptual_hash import WORDS, perceptual_hash
from sightx.audit.quality import SIZE, QualityMeasures, measure_quality, resized
from sightx.data.cache import store
from sightx.data.cache.build import build_cache
from sightx.data.cache.file_hashes import FileHashCache, FileStates
from sightx.data.dataset import CacheConfig
from sightx.data.decode.decoder import decode
from sightx.data.preprocess import Preprocessor, ProgressCallback, content_hash, preprocess_image
from sightx.errors import ResourceError
from sightx.records.hashes import Hashes
from sightx.records.table import EncodedOrPixels, ImageTable

Array = np.ndarray[Any, Any]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_RECORD = np.dtype(
    [
        ("hash", "<u8", (WORDS,)),
        ("pixels", "<u8"),
        ("bytes", "<u4"), ("width", "<u4"), ("height", "<u4"), ("frames", "<u2"),
        ("format", "u1"), ("mode", "u1"), ("bits", "u1"), ("orientation", "u1"),
        ("is_progressive", "u1"), ("has_jfif", "u1"), ("quantization", "<f4"),
        *((name, "<f4") for name in QualityMeasures._fields),
    ]
)  # fmt: skip
_REVISION = 1  # raised when a change here changes a property
_THUMBNAIL = 32


@dataclass(frozen=True)
class ImageProperties:
    """The properties of a table's images.

    Attributes:
        frame: One row per sample: the fields of `FileFacts` and `QualityMeasures`, `pixels` (a hash
            of the decoded image), and `is_known`, which is False for images that cannot be read.
        hashes: Perceptual hashes, uint64 (N, 4).
        contents: SHA-256 of the images' contents.
        bad: Why images cannot be read, by their position in the table.
    """

    frame: pd.DataFrame
    hashes: Array
    contents: Hashes
    bad: Mapping[int, str]

    @property
    def is_known(self) -> Array:
        """Return which images could be read, bool (N,)."""
        known: Array = self.frame["is_known"].to_numpy(bool)
        return known


class _PropertyReader(Preprocessor):
    """Make rows of properties instead of pixels."""

    row_shape = (1, 1, _RECORD.itemsize)

    def make_row(self, image: EncodedOrPixels) -> Array:
        """Return an image's properties as bytes, uint8 (1, 1, B)."""
        pixels = self._decode(image)
        facts = read_facts(image) if isinstance(image, bytes) else FileFacts()
        copy = resized(pixels, SIZE)
        grey = (copy @ _LUMA).reshape(HASHED_SIZE, SIZE // HASHED_SIZE, HASHED_SIZE, -1)
        record = np.zeros(1, _RECORD)
        record["hash"] = perceptual_hash(grey.mean(axis=(1, 3)))
        record["pixels"] = int.from_bytes(content_hash(pixels)[:8], "little")
        for name, value in (*facts._asdict().items(), *measure_quality(copy)._asdict().items()):
            record[name] = value
        return record.view(np.uint8).reshape(self.row_shape)

    def _decode(self, image: EncodedOrPixels) -> Array:
        """Return the pixels of an image, uint8 (H, W, 3)."""
        if isinstance(image, bytes):
            return decode(image, min_size=(SIZE, SIZE))
        channels = self.table.channels
        pixels = preprocess_image(image, (), channels=channels).permute(1, 2, 0).numpy()
        return pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)


class _ThumbnailReader(_PropertyReader):
    """Make grey thumbnails, which tell copies from images that are only alike."""

    row_shape = (1, _THUMBNAIL, _THUMBNAIL)

    def make_row(self, image: EncodedOrPixels) -> Array:
        """Return the thumbnail of an image, uint8 (1, 32, 32)."""
        grey = Image.fromarray(resized(self._decode(image), SIZE)).convert("L")
        small = grey.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        return np.asarray(small)[None]


def read_properties(
    table: ImageTable,
    files: FileStates,
    config: CacheConfig,
    progress: ProgressCallback | None = None,
) -> ImageProperties:
    """Return the properties of a table's images; only those of new contents are computed."""
    reader = _PropertyReader(table, ())
    rows, contents, bad = _cached_rows(reader, files, config, "properties", progress)
    records = _records(rows)
    return ImageProperties(_frame(records, bad), records["hash"], contents, bad)


def image_properties(table: ImageTable) -> pd.DataFrame:
    """Return the properties of a table's images, as checks of the stage audit get them.

    There is one row per sample. Every image is read, and nothing is cached.
    """
    rows, _, bad = _uncached_rows(_PropertyReader(table, ()), 0, None)
    return _frame(_records(rows), bad)


def _records(rows: Array) -> Array:
    """Return rows of bytes, uint8 (N, 1, 1, B), as records."""
    return rows.reshape(len(rows), -1).view(_RECORD)[:, 0]


def _frame(records: Array, bad: Mapping[int, str]) -> pd.DataFrame:
    """Return records as columns, without the perceptual hash."""
    columns = {name: records[name] for name in _RECORD.names or () if name != "hash"}
    return pd.DataFrame(columns).assign(is_known=~np.isin(np.arange(len(records)), list(bad)))


def read_thumbnails(table: ImageTable, files: FileStates, config: CacheConfig) -> Array:
    """Return grey thumbnails of a table's images, float32 (N, 32, 32); zeros if unreadable."""
    rows, _, _ = _cached_rows(_ThumbnailReader(table, ()), files, config, "thumbnails")
    return rows[:, 0].astype(np.float32)


def _cached_rows(
    reader: _PropertyReader,
    files: FileStates,
    config: CacheConfig,
    contents: str,
    progress: ProgressCallback | None = None,
) -> tuple[Array, Hashes, Mapping[int, str]]:
    """Return rows, uint8 (N, ...), hashes of the contents, and why images are bad."""
    about = store.cache_key((), reader.row_shape, "scaled", config.registry)
    about |= {"contents": f"{contents} of images, for sightx audit", "revision": _REVISION}
    file_hashes = FileHashCache(config.cache.files, reader.table, files)
    threads = config.threads
    try:
        built = build_cache(
            reader, file_hashes, config.cache, about, threads=threads, progress=progress
        )
    except ResourceError as error:
        if error.problems[0].code not in ("disk-full", "no-cache"):
            raise
        return _uncached_rows(reader, threads, progress)
    rows = np.zeros((len(reader.table), *reader.row_shape), np.uint8)
    good = np.flatnonzero(built.rows.index >= 0)
    if len(good):
        rows[good] = built.rows.gather(good).numpy()
    return rows, built.hashes, built.bad


def _uncached_rows(
    reader: _PropertyReader, threads: int, progress: ProgressCallback | None
) -> tuple[Array, Hashes, Mapping[int, str]]:
    """Return the same as `_cached_rows`, from every image, where the cache cannot be used."""
    count = len(reader.table)
    rows, hashes = np.zeros((count, *reader.row_shape), np.uint8), Hashes.unknown(count)
    bad: dict[int, str] = {}
    with closing(reader.process_all(np.arange(count), threads)) as images:
        for done, image in enumerate(images, start=1):
            hashes.raw[image.index] = image.digest
            if image.row is None:
                bad[image.index] = image.reason
            else:
                rows[image.index] = image.row
            if progress:
                progress(done, count)
    return rows, hashes, bad
