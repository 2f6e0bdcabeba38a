"""Shards: tar files in WebDataset's format, with an index that makes them a table.

    shards.json          the description, see `Shards`
    index.csv            one row per sample, with its place in a shard
    shard-000000.tar     for each sample its image, and its label as a number
    spec.toml            the experiment on these data

Source of the format: github.com/webdataset/webdataset.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, RECORDSIZE
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from sightx.data.checks import check_bad_images
from sightx.data.dataset import load_table
from sightx.data.decode.decoder import BadImage, decode, sniff
from sightx.data.preprocess import ProgressCallback, failure_reason, map_in_order, read_image
from sightx.errors import Problem, SpecError
from sightx.export import dataset_folder
from sightx.export.dataset_folder import INDEX, Description, ExportReport, raise_damaged
from sightx.export.storage import ByteRange, Storage
from sightx.io import system
from sightx.io.files import resolve_below
from sightx.records.table import ImageTable
from sightx.registry.components import Settings, Traits
from sightx.spec.experiment import Experiment

DESCRIPTION = "shards.json"

_COLUMNS = ("shard", "key", "offset", "size")
_HOW_TO_WRITE = "sightx prepare SPEC --shards DIR writes them"
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}
_END = 2 * BLOCKSIZE  # of a tar file


class Shard(Settings):
    """The name and the bytes of a tar file."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*\.tar$")]
    size: Annotated[int, Field(ge=0, lt=2**63)]


class Shards(Description):
    """What a folder of shards contains."""

    shards: tuple[Shard, ...]


def table_from_shards(root: str, traits: Traits) -> ImageTable:
    """Return the table of the shards in a folder or at a URL, from the index alone.

    Each image is read by its offset and compared with its hash. `traits` are those of the spec,
    and must agree with the shards. Raises DataError.
    """
    storage = Storage.open(root, _HOW_TO_WRITE)
    description = dataset_folder.read_description(Shards, storage, DESCRIPTION, _HOW_TO_WRITE)
    index = dataset_folder.read_index(storage, description, _HOW_TO_WRITE, _COLUMNS)
    names, source = [shard.name for shard in description.shards], f"{storage.root}/{INDEX}"
    if not storage.is_url:
        _check_sizes(storage.root, description.shards)
    shard = dataset_folder.category_positions(
        index["shard"], {name: number for number, name in enumerate(names)}
    )
    _check_bounds(index, shard, description.shards, source)
    reader = _ShardReader(
        storage, description.shards, shard, index["offset"].to_numpy(), index["size"].to_numpy(),
        index["key"].to_numpy(str), index["sha256"].to_numpy(object),
    )  # fmt: skip
    table = ImageTable(
        dataset_folder.index_frame(index),
        description.classes,
        reader,
        description.ordered,
        source,
        columns=dataset_folder.extra_columns(index),
    )
    return dataset_folder.check_traits(table, traits)


def _check_sizes(root: str, shards: Sequence[Shard]) -> None:
    """Raise DataError if a shard on a disk is missing or incomplete."""
    for shard in shards:
        file = str(Path(root, shard.name))
        try:
            size = Path(resolve_below(root, shard.name)).stat().st_size
        except OSError as error:
            raise_damaged(file, f"cannot be read: {error.strerror}")
        if size != shard.size:
            raise_damaged(file, f"has {size} bytes, {shard.size} were written")


def _check_bounds(
    index: pd.DataFrame, shard: np.ndarray[Any, Any], shards: Sequence[Shard], file: str
) -> None:
    """Raise DataError for an image that is not within a shard."""
    sizes = np.array([shard.size for shard in shards] + [0])  # the last one for no shard: -1
    latest = sizes[shard] - index["size"]  # the sum offset + size could overflow
    wrong = (shard < 0) | (index["offset"] < 0) | (index["size"] < 0) | (index["offset"] > latest)
    dataset_folder.refuse_rows(index, wrong, file, "is outside the shards")


@dataclass(frozen=True)
class _ShardReader:
    """Read images by their offset; an object, so that worker processes can receive it."""

    storage: Storage
    shards: tuple[Shard, ...]
    shard: np.ndarray[Any, Any]
    offset: np.ndarray[Any, Any]
    size: np.ndarray[Any, Any]
    key: np.ndarray[Any, Any]
    digest: np.ndarray[Any, Any]

    def __call__(self, index: int) -> bytes:
        """Return one image. Raises BadImage if it is damaged, DataError if the shard is missing."""
        shard = self.shards[self.shard[index]]
        name = f"{shard.name}, {self.key[index]}"
        part = ByteRange(int(self.offset[index]), int(self.size[index]), shard.size)
        content = self.storage.read_part(shard.name, part, name)
        if hashlib.sha256(content).hexdigest() != self.digest[index]:
            raise BadImage(f"{name}: not what was written")
        return content


def write_shards(
    experiment: Experiment,
    folder: Path,
    bad_images_csv: Path,
    *,
    shard_size: int = 1_000_000_000,
    progress: ProgressCallback | None = None,
) -> ExportReport:
    """Write all images of a dataset, unchanged, and a spec that reads them.

    Images without a file are written as PNG. Every image is decoded once as a check; those that
    cannot be read are listed in `bad_images_csv`, and treated as the dataset says. The same images
    give the same bytes. Raises DataError, and SpecError if the folder is not empty.

    Args:
        shard_size: Largest size of a shard in bytes, unless one image needs more.
        progress: Is called with the number of images that are done, and of all.
    """
    table = load_table(experiment.dataset)
    if table.chain:
        message = "the dataset contains preprocessed pixels, not images"
        raise SpecError(Problem("usage", message, "use the original dataset", "dataset.use"))
    with dataset_folder.atomic_export(folder, DESCRIPTION) as writing:
        with closing(_ShardWriter(writing, shard_size)) as writer:
            rows, bad = _write_images(table, writer, experiment.execution.threads, progress)
        check_bad_images(table, bad, experiment.dataset, bad_images_csv)
        table = table.take(np.setdiff1d(np.arange(len(table)), list(bad)))
        dataset = dataset_folder.dataset_table(experiment, table, "shards")
        spec = dataset_folder.export_spec(experiment, dataset)
        columns = pd.DataFrame(rows, columns=[*_COLUMNS, "sha256"])
        dataset_folder.write_metadata(writing, table, columns, spec)
        description = Shards(
            classes=table.classes,
            ordered=table.ordered,
            samples=len(table),
            shards=tuple(writer.shards),
        )
        dataset_folder.write_description(writing / DESCRIPTION, description)
    return ExportReport(len(table), sum(shard.size for shard in writer.shards), dataset)


_IndexRow = tuple[str, str, int, int, str]


def _write_images(
    table: ImageTable, writer: _ShardWriter, threads: int, progress: ProgressCallback | None
) -> tuple[list[_IndexRow], dict[int, str]]:
    """Write the images; return the rows of the index, and why the other images have none."""
    labels, rows, bad = table.labels.tolist(), list[_IndexRow](), dict[int, str]()
    for index, image in enumerate(_encoded_images(table, threads)):
        if isinstance(image, str):
            bad[index] = image
        else:
            key = f"{index:08}"  # not the path: WebDataset cuts a key at its first dot
            members = {image.suffix: image.content, "cls": str(labels[index]).encode()}
            shard, offset = writer.add(key, members)
            rows.append((shard, key, offset, len(image.content), image.digest))
        if progress:
            progress(index + 1, len(table))
    return rows, bad


class _EncodedImage(NamedTuple):
    content: bytes
    suffix: str
    digest: str


def _encoded_images(table: ImageTable, threads: int) -> Iterator[_EncodedImage | str]:
    """Yield each image of a table in order, or the reason why it cannot be read."""

    def encode(index: int) -> _EncodedImage | str:
        try:
            image = read_image(table, index)
            content = image if isinstance(image, bytes) else _encode_png(image)
            decode(content)
        except (BadImage, OSError) as error:
            return failure_reason(error)
        image_format = sniff(content)
        suffix = _SUFFIXES.get(image_format, image_format.lower())
        return _EncodedImage(content, suffix, hashlib.sha256(content).hexdigest())

    workers = threads or system.cpu_count()
    with ThreadPoolExecutor(workers) as pool:
        # Few images are ahead, because images may be large.
        yield from map_in_order(pool, encode, range(len(table)), ahead=2 * workers)


def _encode_png(pixels: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class _ShardWriter:
    """Write samples into one tar file after another, without times, users or other metadata."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.shards: list[Shard] = []
        self._folder, self._limit = folder, limit
        self._tar: tarfile.TarFile | None = None

    def add(self, key: str, members: dict[str, bytes]) -> tuple[str, int]:
        """Write the files of a sample; return its shard, and the offset of the first file."""
        sizes = [BLOCKSIZE + _round_up(len(content), BLOCKSIZE) for content in members.values()]
        tar = self._open(sum(sizes))
        offset = tar.offset + BLOCKSIZE
        for suffix, content in members.items():
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        return self._name, offset

    def close(self) -> None:
        """Finish the current shard."""
        if self._tar:
            self._tar.close()
            size = (self._folder / self._name).stat().st_size
            self.shards.append(Shard(name=self._name, size=size))
            self._tar = None

    @property
    def _name(self) -> str:
        return f"shard-{len(self.shards):06}.tar"

    def _open(self, size: int) -> tarfile.TarFile:
        """Return the current shard if it has room for `size` bytes, else a new one."""
        if self._tar and _round_up(self._tar.offset + size + _END, RECORDSIZE) > self._limit:
            self.close()
        if self._tar is None:
            path = self._folder / self._name
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        return self._tar


def _round_up(size: int, block: int) -> int:
    return -(-size // block) * block
