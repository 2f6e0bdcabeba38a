"""Read shards: tar files as WebDataset has them, and the index that makes them a table.

A folder, or a URL, holds `shards.json` (see `Shards`), `index.csv` (a row a sample; `COLUMNS` say
where it is) and the shards that these name. Source of their form: github.com/webdataset/webdataset.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt

from sightx.data.images import BadImage
from sightx.data.indexes import (
    INDEX,
    Description,
    agreed,
    damaged,
    frame_of,
    positions,
    read_description,
    read_index,
    refuse,
)
from sightx.data.labels import labelled_folder
from sightx.data.table import ImageTable
from sightx.errors import DataError, Problem
from sightx.registry.components import Settings, Traits

DESCRIPTION = "shards.json"
COLUMNS = ("shard", "key", "offset", "size")

_PAUSES = (0.2, 1.0, 4.0)  # seconds before a request is made again
_PASSING = (408, 425, 429)  # what HTTP servers say that are busy; and everything from 500 on
_WRITTEN = "sightx prepare SPEC --shards DIR writes them"


class Shard(Settings):
    """Name one tar file, and say how many bytes it has."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*\.tar$")]
    size: NonNegativeInt


class Shards(Description):
    """Say what lies in a folder of shards."""

    shards: tuple[Shard, ...]


def table_from_shards(root: str, traits: Traits) -> ImageTable:
    """Return the table of the shards in a folder or at a URL; nothing but the index is read.

    An image is read by its offset and compared with its hash. `traits` are what the spec says,
    and must be true of what was written. Raises DataError.
    """
    if "://" not in root:
        root = str(labelled_folder(Path(root), "dataset.root", _WRITTEN))
    get = partial(_fetch, root) if "://" in root else partial(_read, root)
    described = read_description(Shards, _whole(get, root, DESCRIPTION), f"{root}/{DESCRIPTION}")
    source = f"{root}/{INDEX}"
    cells = read_index(_whole(get, root, INDEX), described, COLUMNS, source)
    if "://" not in root:
        _check_sizes(root, described.shards)
    place = positions(cells["shard"], [shard.name for shard in described.shards])
    _check_bounds(cells, place, described.shards, source)
    members = _Members(
        get, described.shards, place, cells["offset"].to_numpy(), cells["size"].to_numpy(),
        cells["key"].to_numpy(str), cells["sha256"].to_numpy(object),
    )  # fmt: skip
    table = ImageTable(frame_of(cells), described.classes, members, described.ordered, source)
    return agreed(table, traits)


def _whole(get: _Get, root: str, name: str) -> bytes:
    """Return a file of the folder, which must be there."""
    try:
        return get(name, None)
    except FileNotFoundError:
        message = f"no {name}: no shards are here, or their writing was not finished"
        raise DataError(Problem("missing-data", message, _WRITTEN, file=root)) from None
    except ImportError as error:
        raise _lacking(root, error) from error
    except Exception as error:
        raise _unreachable(root, name, error) from error


def _check_sizes(root: str, shards: Sequence[Shard]) -> None:
    """Refuse shards on disk that are not there, or not whole."""
    for shard in shards:
        path = Path(root, shard.name)
        try:
            size = path.stat().st_size
        except OSError as error:
            damaged(str(path), f"cannot be read: {error.strerror}")
        if size != shard.size:
            damaged(str(path), f"has {size} bytes, {shard.size} were written")


def _check_bounds(
    cells: pd.DataFrame, place: np.ndarray[Any, Any], shards: Sequence[Shard], file: str
) -> None:
    """Refuse members that do not lie in a shard that there is."""
    sizes = np.array([shard.size for shard in shards] + [0])  # the last for what is in no shard
    ends = cells["offset"] + cells["size"]
    wrong = (place < 0) | (cells["offset"] < 0) | (cells["size"] < 0) | (ends > sizes[place])
    refuse(cells, wrong, file, "lies outside the shards")


class _Range(NamedTuple):
    """Name a part of a file, whose size is known."""

    start: int
    size: int
    of: int


_Get = Callable[[str, _Range | None], bytes]


@dataclass(frozen=True)
class _Members:
    """Read images by their offset; an object, so that it reaches worker processes."""

    get: _Get
    shards: tuple[Shard, ...]
    shard: np.ndarray[Any, Any]
    offset: np.ndarray[Any, Any]
    size: np.ndarray[Any, Any]
    key: np.ndarray[Any, Any]
    digest: np.ndarray[Any, Any]

    def __call__(self, index: int) -> bytes:
        """Return one image. Raises BadImage for a damaged one, DataError without its shard."""
        shard, size = self.shards[self.shard[index]], int(self.size[index])
        name = f"{shard.name}, {self.key[index]}"
        try:
            content = self.get(shard.name, _Range(int(self.offset[index]), size, shard.size))
        except Exception as error:
            raise _unreachable("", name, error) from error
        if hashlib.sha256(content).hexdigest() != self.digest[index]:
            raise BadImage(f"{name}: not what was written")
        return content


def _read(root: str, name: str, part: _Range | None) -> bytes:
    """Return a file on disk, or a part of one."""
    file = os.open(f"{root}/{name}", os.O_RDONLY)
    try:
        size, start = (part.size, part.start) if part else (os.fstat(file).st_size, 0)
        return os.pread(file, size, start)
    finally:
        os.close(file)


def _fetch(root: str, name: str, part: _Range | None) -> bytes:
    """Return a file behind a URL, or a part of one; what may pass is tried again."""
    url = f"{root.rstrip('/')}/{name}"
    for pause in _PAUSES:
        try:
            return _request(url, part)
        except Exception as error:
            if not _passing(error):
                raise
        time.sleep(pause)
    return _request(url, part)


def _request(url: str, part: _Range | None) -> bytes:
    from fsspec.core import url_to_fs  # torch needs it, too; it keeps one system a process

    system, path = url_to_fs(url)
    if part is None:
        content: bytes = system.cat_file(path)
    elif "http" in system.protocol:
        # Other than cat_file, a file refuses a server that would send the whole shard.
        with system.open(path, size=part.of, cache_type="none") as file:
            file.seek(part.start)
            content = file.read(part.size)
    else:
        content = system.cat_file(path, start=part.start, end=part.start + part.size)
    return content


def _passing(error: Exception) -> bool:
    """Say whether a request may succeed the next time."""
    if isinstance(error, FileNotFoundError | PermissionError | ValueError | ImportError):
        return False
    status = getattr(error, "status", None)
    return not isinstance(status, int) or status >= 500 or status in _PASSING


def _lacking(root: str, error: ImportError) -> DataError:
    scheme = root.partition(":")[0]
    way = "pip install 'sightx[shards]'" if scheme in ("http", "https") else f"for {scheme}://"
    message = f"{scheme}:// needs a package that is not installed: {error}"
    return DataError(Problem("missing-package", message, way, "dataset.root"))


def _unreachable(root: str, name: str, error: Exception) -> DataError:
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
    if isinstance(error, FileNotFoundError):
        reason = os.strerror(errno.ENOENT)
    hint = "try again, or copy the shards to a disk"
    if "range requests" in reason:
        reason, hint = "the server sends no parts of files", "use one with HTTP Range"
    message = f"{name} cannot be read: {reason or type(error).__name__}"
    return DataError(Problem("unreachable", message, hint, file=root))
