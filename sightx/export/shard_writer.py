"""Write an experiment's images into shards: tar files as WebDataset has them, and their index."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tarfile import BLOCKSIZE, RECORDSIZE
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sightx.data.checks import check_bad_images
from sightx.data.dataset import load_table
from sightx.data.decode.decoder import BadImage, decode, sniff
from sightx.data.preprocess import ProgressCallback, failure_reason, read_image
from sightx.errors import Problem, SpecError
from sightx.export.delivery import SPEC, ExportReport, atomic_export, dataset_table, export_spec
from sightx.export.index import INDEX, write_index
from sightx.export.shard_reader import COLUMNS, DESCRIPTION, Shard, Shards
from sightx.io import system
from sightx.records.table import ImageTable
from sightx.spec.experiment import Experiment

SHARD_SIZE = 1_000_000_000
"""Bytes that a shard may have, unless one image needs more."""

_NAME, _KEY = "shard-{:06}.tar", "{:08}"  # a key without a dot: WebDataset cuts it at the first
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}
_END = 2 * BLOCKSIZE  # what ends a tar file


def write_shards(
    experiment: Experiment,
    folder: Path,
    faults: Path,
    *,
    shard_size: int = SHARD_SIZE,
    progress: ProgressCallback | None = None,
) -> ExportReport:
    """Write every image that the experiment's dataset has, unchanged, and a spec that reads them.

    What is no file is written as PNG. Every image is decoded once; what is bad is listed in the
    file `faults`, and dealt with as the dataset says. The same images give the same bytes.
    `progress` hears (done, of). Raises DataError, and SpecError where the folder is not empty.
    """
    table = load_table(experiment.dataset)
    if table.chain:
        message, hint = (
            "the dataset holds prepared pixels, no images",
            "name the one it was made of",
        )
        raise SpecError(Problem("usage", message, hint, "dataset.use"))
    with atomic_export(folder, DESCRIPTION) as writing:
        with closing(_Writer(writing, shard_size)) as shards:
            rows, bad = _write_all(table, shards, experiment.execution.threads, progress)
        check_bad_images(table, bad, experiment.dataset, faults)
        kept = table.take(np.setdiff1d(np.arange(len(table)), list(bad)))
        write_index(writing / INDEX, kept, pd.DataFrame(rows, columns=[*COLUMNS, "sha256"]))
        said = dataset_table(experiment, kept, "shards")
        described = Shards(
            classes=table.classes,
            ordered=table.ordered,
            samples=len(kept),
            shards=tuple(shards.written),
        )
        (writing / SPEC).write_text(export_spec(experiment, said), encoding="utf-8")
        (writing / DESCRIPTION).write_text(described.model_dump_json(indent=1) + "\n")
    return ExportReport(len(kept), sum(shard.size for shard in shards.written), said)


_Row = tuple[str, str, int, int, str]


def _write_all(
    table: ImageTable, shards: _Writer, threads: int, progress: ProgressCallback | None
) -> tuple[list[_Row], dict[int, str]]:
    """Write each image that can be read; return the rows of the index, and why others have none."""
    labels, rows, bad = table.labels.tolist(), list[_Row](), dict[int, str]()
    for index, image in enumerate(_images(table, threads)):
        if isinstance(image, str):
            bad[index] = image
        else:
            key, label = _KEY.format(index), str(labels[index]).encode()
            shard, offset = shards.add(key, {image.suffix: image.content, "cls": label})
            rows.append((shard, key, offset, len(image.content), image.digest))
        if progress:
            progress(index + 1, len(table))
    return rows, bad


class _Image(NamedTuple):
    """Hold an encoded image, what its file is called at the end, and its hash."""

    content: bytes
    suffix: str
    digest: str


def _images(table: ImageTable, threads: int) -> Iterator[_Image | str]:
    """Yield each image of a table in order, or the reason why it cannot be read."""

    def one(index: int) -> _Image | str:
        try:
            found = read_image(table, index)
            content = found if isinstance(found, bytes) else _png(found)
            decode(content)
        except (BadImage, OSError) as error:
            return failure_reason(error)
        suffix = _SUFFIXES.get(form := sniff(content), form.lower())
        return _Image(content, suffix, hashlib.sha256(content).hexdigest())

    workers = threads or system.cpu_count()
    waiting = deque[Future[_Image | str]]()  # few: images may be large, the disk slow
    with ThreadPoolExecutor(workers) as pool:
        for index in range(len(table)):
            waiting.append(pool.submit(one, index))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class _Writer:
    """Write members into one shard after another; nothing of this machine or hour is in them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.written: list[Shard] = []
        self._folder, self._limit = folder, limit
        self._tar: tarfile.TarFile | None = None

    def add(self, key: str, members: dict[str, bytes]) -> tuple[str, int]:
        """Write a sample's members; return its shard, and where the bytes of the first begin."""
        tar = self._room(
            sum(BLOCKSIZE + _whole(len(content), BLOCKSIZE) for content in members.values())
        )
        offset = tar.offset + BLOCKSIZE
        for suffix, content in members.items():
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        return self._name, offset

    def close(self) -> None:
        """End the last shard."""
        if self._tar:
            self._tar.close()
            size = (self._folder / self._name).stat().st_size
            self.written.append(Shard(name=self._name, size=size))
            self._tar = None

    @property
    def _name(self) -> str:
        return _NAME.format(len(self.written))

    def _room(self, size: int) -> tarfile.TarFile:
        """Return the shard that has room for so many bytes, or a new one."""
        if self._tar and _whole(self._tar.offset + size + _END, RECORDSIZE) > self._limit:
            self.close()
        if self._tar is None:
            path = self._folder / self._name
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        return self._tar


def _whole(size: int, block: int) -> int:
    """Return how many bytes so many need in whole blocks."""
    return -(-size // block) * block
