"""The pixel cache: a folder of preprocessed images, shared by all specs of a user.

`pixels/KEY/` is a row file for one chain of preprocessing, decoder and shape; `files/` has the
hashes of files that were read before. A file marks the folder as a cache; without it nothing is
written or removed there.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightx.data.cache import file_hashes
from sightx.data.cache.row_file import ABOUT, FORMAT, INDEX, RECORD, ROWS, RowFile, cache_errors
from sightx.data.decode.decoder import DECODER, DecodeMode, min_decoded_size
from sightx.errors import Problem, ResourceError, SpecError
from sightx.io import locks
from sightx.io.files import file_sha256, shell_path, user_path
from sightx.io.locks import Lock
from sightx.registry import provenance
from sightx.registry.components import Component, to_plain
from sightx.registry.kinds import Preprocess
from sightx.registry.project import Project
from sightx.registry.registry import Registry
from sightx.spec.experiment import iter_components

_log = logging.getLogger("sightx")
_BUILDER = "builder.json"  # locked by the process that appends rows
_NEW, _REMOVED = ".new-", ".removed-"  # prefixes of folders that are incomplete
_KEY = re.compile("[0-9a-f]{16}")
_INCOMPLETE = re.compile(r"\.(new|removed)-[0-9a-f]{16}")
_OUR_FILES = {ABOUT, ROWS, INDEX, _BUILDER}
MARK = "CACHEDIR.TAG"
"""The file that marks a cache, by the convention of bford.info/cachedir: backups skip it."""
_MARK_TEXT = b"""Signature: 8a477f597d28d172789f06886806bc55
# SightX's cache of preprocessed images. Everything in this folder can be computed again.
"""
_DAY = 86400.0
_POLL = 0.2  # seconds between two tries for a lock


def cache_folder(project: Project | None = None) -> Path:
    """Return the folder of the cache.

    That is SIGHTX_CACHE, else `cache` in the project's sightx.local.toml, else a folder of the
    user's.
    """
    if folder := os.environ.get("SIGHTX_CACHE"):
        return user_path(folder).absolute()
    if project and project.cache:
        return project.cache
    default = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return user_path(os.environ.get("XDG_CACHE_HOME") or default).absolute() / "sightx"


def cache_key(
    chain: Sequence[Preprocess],
    shape: tuple[int, int, int],
    decode: DecodeMode,
    registry: Registry | None = None,
) -> dict[str, Any]:
    """Return everything that pixels depend on apart from their image's content."""
    return {
        "shape": list(shape),
        "decoder": DECODER,
        "decode": decode,
        "min_decoded_size": min_decoded_size(chain, decode),
        "libraries": _libraries(),
        "preprocess": [
            _describe(part, registry)
            for component in chain
            for part in (component, *iter_components(component))
        ],
    }


def _libraries() -> dict[str, str]:
    """Return the versions of the libraries that decode and resize.

    A patch release counts, because it may change pixels; a build's label (`+cu126`) does not.
    """
    import PIL
    import simplejpeg
    import torch

    libraries = {"pillow": PIL, "simplejpeg": simplejpeg, "torch": torch}
    return {name: str(lib.__version__).partition("+")[0] for name, lib in libraries.items()}


def _describe(component: Component, registry: Registry | None) -> dict[str, Any]:
    """Return a component's settings and revision, and the code of one from a plugin.

    The content of files and folders counts, not their paths.
    """
    settings = to_plain(
        component, identity=True, convert_path=lambda value, kind: _content_hash(value)
    )
    described = {**settings, "revision": component.revision}
    cls = type(component)
    if not cls.__module__.startswith("sightx."):
        name = f"{cls.__module__}.{cls.__qualname__}"
        described |= {"class": name, "code": _code_hash(component, registry)}
    return described


def _content_hash(value: Any) -> Any:
    """Return the hash of the content of a file or a folder, or of each of several."""
    if isinstance(value, tuple):
        return [_content_hash(item) for item in value]
    path = Path(str(value))
    if not path.is_dir():
        return file_sha256(path) if path.is_file() else str(value)
    below = (Path(at, name) for at, _, names in os.walk(path, followlinks=True) for name in names)
    files = sorted((file.relative_to(path).as_posix(), file_sha256(file)) for file in below)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _code_hash(component: Component, registry: Registry | None) -> str:
    """Return a hash of a plugin's source; if there is none, a random one, so nothing is shared."""
    if source_hash := provenance.component_origin(component, registry)["sha256"]:
        return str(source_hash)
    try:
        return hashlib.sha256(inspect.getsource(type(component)).encode()).hexdigest()
    except (OSError, TypeError):
        return secrets.token_hex(16)


class CacheEntry(NamedTuple):
    """One row file of the cache: size in bytes, last use in seconds since 1970.

    What `prune` removes apart from row files is an entry too; its key is a path below the cache.
    """

    key: str
    about: Mapping[str, Any]
    rows: int
    size: int
    used: float


@dataclass(frozen=True)
class PixelCache:
    """Find, build, list and prune the row files below a folder.

    Every method raises ResourceError for a folder with other contents that is not marked.
    """

    root: Path

    @property
    def files(self) -> Path:
        """Return the folder of the hashes of files."""
        return self.root / "files"

    @property
    def _pixels(self) -> Path:
        return self.root / "pixels"

    def require_own(self) -> bool:
        """Return whether the folder has the mark of a cache; without it, it must be empty."""
        mark = self.root / MARK
        with cache_errors(self.root):
            names = {path.name for path in self.root.iterdir()} if self.root.exists() else set()
            text = mark.read_bytes() if mark.is_file() else b""
        if text == _MARK_TEXT:
            return True
        if names - {MARK} or text:
            message = f"{self.root} is not a cache: it holds {min(names)!r}, and no mark of SightX"
            names_free = (self.root / f"sightx{n}" for n in ("", *(f"-{k}" for k in range(2, 100))))
            free = next(path for path in names_free if not path.exists())
            hint = f"to use a new folder: export SIGHTX_CACHE={shell_path(free)}"
            raise ResourceError(Problem("not-a-cache", message, hint))
        return False

    def open(self, about: Mapping[str, Any]) -> tuple[RowFile, Lock]:
        """Return the row file for a cache key, which is made if it does not exist.

        Nobody removes it while the lock is held. Raises ResourceError if it cannot be made.
        """
        text = json.dumps([FORMAT, about], sort_keys=True)
        folder = self._pixels / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._mark()
        while True:
            if not (folder / ABOUT).is_file():
                self._create(folder, about)
            with cache_errors(folder), suppress(FileNotFoundError):
                if lock := locks.shared_lock(folder / ABOUT):
                    with suppress(OSError):  # the cache may be read-only
                        os.utime(folder / ABOUT)
                    return RowFile.open(folder), lock
            time.sleep(_POLL)  # it is being removed

    def entries(self) -> list[CacheEntry]:
        """Return every row file, the one that was used last first."""
        self.require_own()
        entries = []
        for folder in self._pixels.glob("*"):
            if _KEY.fullmatch(folder.name) and (folder / ABOUT).is_file():
                with suppress(FileNotFoundError):  # it is being removed
                    entries.append(_entry(folder))
        return sorted(entries, key=lambda entry: -entry.used)

    def prune(self, keys: Sequence[str] = (), unused: float = 0.0) -> list[CacheEntry]:
        """Remove row files that nobody uses at the moment, and return what was removed.

        Files that SightX did not write stay, with a warning.

        Args:
            keys: The beginnings of the keys to remove; without any, all.
            unused: Keep what was used within so many seconds.

        Raises SpecError for a key without a row file.
        """
        entries = self.entries()
        for key in keys:
            if not any(entry.key.startswith(key) for entry in entries):
                message = f"no entry of the cache has the key {key}"
                raise SpecError(Problem("no-cache-entry", message, "sightx cache lists the keys"))
        old = [entry for entry in entries if time.time() - entry.used >= unused]
        chosen = [entry for entry in old if not keys or entry.key.startswith(tuple(keys))]
        removed = [entry for entry in chosen if self._remove(self._pixels / entry.key)]
        return [*removed, *self._sweep(0.0 if keys else unused)]

    @contextmanager
    def build_lock(self, rows: RowFile, on_wait: Callable[[], None]) -> Iterator[None]:
        """Be the only process that appends to a row file.

        `on_wait` is called again and again while another process does. Raises ResourceError if the
        cache cannot be written.
        """
        file, is_waiting = rows.folder / _BUILDER, False
        with cache_errors(rows.folder):
            while (lock := locks.exclusive_lock(file, create=True)) is None:
                if not is_waiting:
                    holder = locks.describe_holder(locks.read_holder(file))
                    _log.info("waiting for %s, which builds the cache", holder)
                    is_waiting = True
                on_wait()
                time.sleep(_POLL)
            lock.write_holder()
        with lock:
            yield

    def _mark(self) -> None:
        """Mark the folder, which is made if it does not exist, as a cache."""
        with cache_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            if self.require_own():
                return
            # Not truncated: another process may mark the same folder with the same text.
            descriptor = os.open(self.root / MARK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.write(descriptor, _MARK_TEXT)
            finally:
                os.close(descriptor)

    def _create(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Make a row file in one step; another process may be faster."""
        temporary = folder.with_name(f"{_NEW}{secrets.token_hex(8)}")
        RowFile.create(temporary, about)
        try:
            with cache_errors(folder):
                temporary.rename(folder)
        except ResourceError:
            _remove_row_file(temporary)
            if not (folder / ABOUT).is_file():
                raise

    def _remove(self, folder: Path) -> bool:
        """Remove a row file, unless somebody uses it; return whether it was removed."""
        if others := _other_files(folder):
            _log.warning("%s stays: %s in it is not a file of SightX", folder, others[0])
            return False
        with cache_errors(folder):
            lock = locks.exclusive_lock(folder / ABOUT)
            if lock is None:
                return False
            hidden = folder.with_name(f"{_REMOVED}{secrets.token_hex(8)}")
            folder.rename(hidden)
        lock.release()
        with cache_errors(folder):
            _remove_row_file(hidden)
        return True

    def _sweep(self, unused: float) -> Iterator[CacheEntry]:
        """Remove what killed processes have left, and the hashes of files of long ago."""
        now = time.time()
        for folder in self._pixels.glob(".*"):
            is_left = folder.name.startswith(_REMOVED) or now - folder.stat().st_mtime > _DAY
            if _INCOMPLETE.fullmatch(folder.name) and is_left and not _other_files(folder):
                entry = _entry(folder)._replace(key=f"pixels/{folder.name}")
                with suppress(OSError):
                    _remove_row_file(folder)
                    yield entry
        for file in self.files.glob("*.bin"):
            status = file.stat()
            if now - status.st_mtime > max(unused, _DAY) and file_hashes.is_hash_file(file):
                file.unlink(missing_ok=True)
                yield CacheEntry(f"files/{file.name}", {}, 0, status.st_size, status.st_mtime)


def _other_files(folder: Path) -> list[str]:
    """Return the names in a folder of rows that SightX does not write there."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder.name]
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in _OUR_FILES or path.is_symlink() or not path.is_file()
    )


def _remove_row_file(folder: Path) -> None:
    """Remove the files that SightX writes into a folder of rows, and then the folder."""
    for name in _OUR_FILES:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def _entry(folder: Path) -> CacheEntry:
    try:
        about = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError):
        about = {}  # it is damaged, and can still be removed
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    rows = sizes.get(INDEX, 0) // RECORD.itemsize
    used = (folder / ABOUT if about else folder).stat().st_mtime
    return CacheEntry(folder.name, about, rows, sum(sizes.values()), used)
