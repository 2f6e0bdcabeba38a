"""Read shards: tar files as WebDataset has them, and the index that makes them a table.

A folder, or a URL, holds `shards.json` (see `Shards`), `index.csv` (a row a sample; `COLUMNS` say
where it is) and the shards that these name. Source of their form: github.com/webdataset/webdataset.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from sightx.data.csv_labels import require_folder
from sightx.data.decode.decoder import BadImage
from sightx.errors import DataError, Problem
from sightx.export.index import (
    INDEX,
    Description,
    check_traits,
    index_frame,
    positions,
    raise_damaged,
    read_description,
    read_index,
    refuse_rows,
)
from sightx.io import system
from sightx.io.files import resolve_below
from sightx.records.table import ImageTable
from sightx.registry.components import Settings, Traits

DESCRIPTION = "shards.json"
COLUMNS = ("shard", "key", "offset", "size")

_PAUSES = (0.2, 1.0, 4.0)  # seconds before a request is made again
_PASSING = (408, 425, 429)  # what HTTP servers say that are busy; and everything from 500 on
_WRITTEN = "sightx prepare SPEC --shards DIR writes them"
_SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
_LARGEST = {DESCRIPTION: 16_000_000, INDEX: 2_000_000_000}  # bytes that are taken of a URL
_PIECE = 1_000_000


class Shard(Settings):
    """Name one tar file, and say how many bytes it has."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*\.tar$")]
    size: Annotated[int, Field(ge=0, lt=2**63)]


class Shards(Description):
    """Say what lies in a folder of shards."""

    shards: tuple[Shard, ...]


def table_from_shards(root: str, traits: Traits) -> ImageTable:
    """Return the table of the shards in a folder or at a URL; nothing but the index is read.

    An image is read by its offset and compared with its hash. `traits` are what the spec says,
    and must be true of what was written. Raises DataError.
    """
    if "://" in root:
        _refuse_strange(root)
        get: _Get = partial(_fetch, root)
    else:
        root = str(require_folder(Path(root), "dataset.root", _WRITTEN))
        get = partial(_read, os.path.realpath(root))
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
    table = ImageTable(index_frame(cells), described.classes, members, described.ordered, source)
    return check_traits(table, traits)


def _refuse_strange(url: str) -> None:
    """Raise DataError for a URL that is no plain name of a folder; secrets in it are not told."""
    scheme, _, rest = url.partition("://")
    user = rest.partition("/")[0].rpartition("@")[0]
    if "::" in url or not re.fullmatch(r"[a-z0-9]+", scheme):
        reason = "a URL that leads through another is not followed"
    elif scheme not in _SCHEMES:
        reason = f"{scheme}:// is none of {', '.join(_SCHEMES[:-1])}"
    elif ":" in user or (user and scheme in ("http", "https")):
        reason = "a URL must hold no user and no password"
    elif "?" in url or "#" in url:
        reason = "a URL must name a folder, without ? and #"
    else:
        return
    hint = "write a folder as a path; credentials belong in the environment"
    raise DataError(Problem("bad-url", reason, hint, "dataset.root"))


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
            size = Path(resolve_below(os.path.realpath(root), shard.name)).stat().st_size
        except OSError as error:
            raise_damaged(str(path), f"cannot be read: {error.strerror}")
        if size != shard.size:
            raise_damaged(str(path), f"has {size} bytes, {shard.size} were written")


def _check_bounds(
    cells: pd.DataFrame, place: np.ndarray[Any, Any], shards: Sequence[Shard], file: str
) -> None:
    """Refuse members that do not lie in a shard that there is."""
    sizes = np.array([shard.size for shard in shards] + [0])  # the last for what is in no shard
    latest = sizes[place] - cells["size"]  # a sum of two large numbers would be a negative one
    wrong = (place < 0) | (cells["offset"] < 0) | (cells["size"] < 0) | (cells["offset"] > latest)
    refuse_rows(cells, wrong, file, "lies outside the shards")


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
    """Return a file of a folder, or a part of one; a link that leads out of it is not followed."""
    file = os.open(resolve_below(root, name), os.O_RDONLY)
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
    content: bytes
    if part is None:
        # So a server that lies about the size, or tells none, is heard no longer than others.
        streamed = {"block_size": 0, "size": 1} if "http" in system.protocol else {}
        with system.open(path, **streamed) as file:
            content = _at_most(_LARGEST[url.rpartition("/")[2]], file)
    elif "http" in system.protocol:
        # Other than cat_file, a file refuses a server that would send the whole shard.
        with system.open(path, size=part.of, cache_type="none") as file:
            file.seek(part.start)
            content = file.read(part.size)
    else:
        content = system.cat_file(path, start=part.start, end=part.start + part.size)
    return content


def _at_most(limit: int, file: Any) -> bytes:
    """Return what a file holds. Raises ValueError where that is more than so many bytes."""
    content = bytearray()
    while piece := file.read(_PIECE):
        content += piece
        if len(content) > limit:
            raise ValueError(f"has more than {system.format_bytes(limit)}")
    return bytes(content)


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
