"""Read files, or parts of them, in a folder or at a URL."""

from __future__ import annotations

import errno
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightx.data.csv_labels import require_folder
from sightx.errors import DataError, Problem
from sightx.io import system
from sightx.io.files import resolve_below

_SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
_RETRY_PAUSES = (0.2, 1.0, 4.0)  # seconds before each further attempt
_RETRY_STATUS = (408, 425, 429)  # of a busy HTTP server; so is every status from 500 on
_URL_LIMITS = {"shards.json": 16_000_000, "index.csv": 2_000_000_000}  # bytes
_CHUNK = 1_000_000  # bytes


class ByteRange(NamedTuple):
    """A part of a file of `file_size` bytes."""

    start: int
    size: int
    file_size: int


@dataclass(frozen=True)
class Storage:
    """The files in a folder or behind a URL; an object, so that worker processes can receive it.

    The path of a folder has no links; links that lead out of it are refused.
    """

    root: str

    @classmethod
    def open(cls, root: str, hint: str) -> Storage:
        """Return the storage at a path or a URL, whose files are read later. Raises DataError."""
        if "://" in root:
            _check_url(root)
            return cls(root)
        return cls(os.path.realpath(require_folder(Path(root), "dataset.root", hint)))

    @property
    def is_url(self) -> bool:
        """Return whether the root is a URL."""
        return "://" in self.root

    def read(self, name: str, hint: str) -> bytes:
        """Return a whole file; `hint` says how to get one that is missing. Raises DataError."""
        try:
            if self.is_url:
                return self._request(name, None)
            return Path(resolve_below(self.root, name)).read_bytes()
        except FileNotFoundError:
            message = f"no {name}: nothing was exported here, or the export was not finished"
            raise DataError(Problem("missing-data", message, hint, file=self.root)) from None
        except Exception as error:
            raise self._error(name, error) from error

    def read_part(self, name: str, part: ByteRange, label: str) -> bytes:
        """Return a part of a file, which messages call `label`. Raises DataError."""
        try:
            if self.is_url:
                return self._request(name, part)
            file = os.open(resolve_below(self.root, name), os.O_RDONLY)
            try:
                return os.pread(file, part.size, part.start)
            finally:
                os.close(file)
        except Exception as error:
            raise self._error(label, error) from error

    def _request(self, name: str, part: ByteRange | None) -> bytes:
        """Return a file behind a URL or a part of it, after further attempts if necessary."""
        url = f"{self.root.rstrip('/')}/{name}"
        for pause in _RETRY_PAUSES:
            try:
                return _fetch(url, part)
            except Exception as error:
                if not _is_transient(error):
                    raise
            time.sleep(pause)
        return _fetch(url, part)

    def _error(self, name: str, error: Exception) -> DataError:
        if isinstance(error, ImportError):
            scheme = self.root.partition(":")[0]
            is_http = scheme in ("http", "https")
            hint = "pip install 'sightx[shards]'" if is_http else f"install it for {scheme}://"
            message = f"{scheme}:// needs a package that is not installed: {error}"
            return DataError(Problem("missing-package", message, hint, "dataset.root"))
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        if isinstance(error, FileNotFoundError):
            reason = os.strerror(errno.ENOENT)
        hint = "try again, or copy the folder to a disk"
        if "range requests" in reason:
            reason, hint = "the server sends no parts of files", "use one with HTTP Range"
        message = f"{name} cannot be read: {reason or type(error).__name__}"
        return DataError(Problem("unreachable", message, hint, file=self.root))


def _fetch(url: str, part: ByteRange | None) -> bytes:
    from fsspec.core import url_to_fs  # torch depends on it; it has one file system per process

    filesystem, path = url_to_fs(url)
    is_http = "http" in filesystem.protocol
    if part is None:
        # A stream stops at the limit, even if the server states a wrong size or none.
        options = {"block_size": 0, "size": 1} if is_http else {}
        with filesystem.open(path, **options) as file:
            return _read_limited(file, _URL_LIMITS[url.rpartition("/")[2]])
    if is_http:
        # Unlike cat_file, a file refuses a server that would send the whole shard.
        with filesystem.open(path, size=part.file_size, cache_type="none") as file:
            file.seek(part.start)
            content: bytes = file.read(part.size)
    else:
        content = filesystem.cat_file(path, start=part.start, end=part.start + part.size)
    return content


def _read_limited(file: Any, limit: int) -> bytes:
    content = bytearray()
    while chunk := file.read(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise ValueError(f"has more than {system.format_bytes(limit)}")
    return bytes(content)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, FileNotFoundError | PermissionError | ValueError | ImportError):
        return False
    status = getattr(error, "status", None)
    return not isinstance(status, int) or status >= 500 or status in _RETRY_STATUS


def _check_url(url: str) -> None:
    """Raise DataError for a URL that is more than the place of a folder; no secret is printed."""
    scheme, _, path = url.partition("://")
    user = path.partition("/")[0].rpartition("@")[0]
    if "::" in url or not re.fullmatch(r"[a-z0-9]+", scheme):
        reason = "a URL that leads through another is not followed"
    elif scheme not in _SCHEMES:
        reason = f"{scheme}:// is none of {', '.join(_SCHEMES[:-1])}"
    elif ":" in user or (user and scheme in ("http", "https")):
        reason = "a URL must have no user and no password"
    elif "?" in url or "#" in url:
        reason = "a URL must name a folder, without ? and #"
    else:
        return
    hint = "write a folder as a path; credentials belong in the environment"
    raise DataError(Problem("bad-url", reason, hint, "dataset.root"))
