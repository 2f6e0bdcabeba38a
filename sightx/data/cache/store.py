"""The store of prepared pixels: a folder of the user's, shared by all specs.

`shelves/KEY/` holds rows of one way of preparing: chain, decoder, shape; `files/` what files held
when they were read last.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sightx.data.cache.row_file import ABOUT, FORMAT, INDEX, RECORD, RowFile, cache_disk_errors
from sightx.data.decode.decoder import DECODER
from sightx.data.decode.scaling import min_decoded_size
from sightx.errors import Problem, ResourceError, SpecError
from sightx.io import locks
from sightx.io.locks import Lock
from sightx.registry import provenance
from sightx.registry.components import Component, to_plain
from sightx.registry.kinds import Preprocess
from sightx.registry.project import Project, expand_home
from sightx.registry.registry import Registry
from sightx.spec.experiment import iter_components

_log = logging.getLogger("sightx")
_FILLING = "filling.json"
_NEW, _GONE = ".new-", ".gone-"  # begin the names of what is not yet, or no longer, a shelf
_DAY = 86400.0
_PAUSE = 0.2  # seconds between two looks at a lock that another holds


def cache_folder(project: Project | None = None) -> Path:
    """Return where the store is: in SIGHTX_CACHE, else where the project says, else in the cache.

    The project's word is `store` in sightx.local.toml; the cache is the user's.
    """
    if said := os.environ.get("SIGHTX_CACHE"):
        return expand_home(said).absolute()
    if project and project.cache:
        return project.cache
    mac = sys.platform == "darwin"
    cache = os.environ.get("XDG_CACHE_HOME") or ("~/Library/Caches" if mac else "~/.cache")
    return expand_home(cache).absolute() / "sightx"


def cache_key(
    chain: Sequence[Preprocess],
    shape: tuple[int, int, int],
    decode: Literal["scaled", "exact"],
    registry: Registry | None = None,
) -> dict[str, Any]:
    """Return all that is known here of what pixels depend on beside the content of their image."""
    return {
        "shape": list(shape),
        "decoder": DECODER,
        "decode": decode,
        "least": min_decoded_size(chain, decode),
        "libraries": _libraries(),
        "preprocess": [_step(part, registry) for prepare in chain for part in _nested(prepare)],
    }


def _libraries() -> dict[str, str]:
    """Return the releases of what decodes and resizes.

    All of the number counts: a patch release may mend pixels. A build's label (`+cu126`) does not.
    """
    import PIL
    import simplejpeg
    import torch

    found = {"pillow": PIL, "simplejpeg": simplejpeg, "torch": torch}
    return {name: str(each.__version__).partition("+")[0] for name, each in found.items()}


def _nested(component: Component) -> Iterator[Component]:
    yield component
    yield from iter_components(component)


def _step(component: Component, registry: Registry | None) -> dict[str, Any]:
    """Return a component as it is named, with its revision, its files and, of plugins, its code."""
    table = to_plain(component, identity=True, convert_path=lambda value, kind: _contents(value))
    step = {**table, "revision": component.revision}
    cls = type(component)
    if not cls.__module__.startswith("sightx."):
        name, code = f"{cls.__module__}.{cls.__qualname__}", _code(component, registry)
        step |= {"class": name, "code": code}
    return step


def _contents(value: Any) -> Any:
    """Return hashes in place of paths: what a file or a folder holds counts, wherever it lies."""
    if isinstance(value, tuple):
        return [_contents(item) for item in value]
    path = Path(str(value))
    if not path.is_dir():
        return _hash(path) if path.is_file() else str(value)
    below = (Path(at, name) for at, _, names in os.walk(path, followlinks=True) for name in names)
    held = sorted((file.relative_to(path).as_posix(), _hash(file)) for file in below)
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _code(component: Component, registry: Registry | None) -> str:
    """Return a hash of a plugin's source; where there is none to be seen nothing is shared."""
    if found := provenance.component_origin(component, registry)["sha256"]:
        return str(found)
    try:
        return hashlib.sha256(inspect.getsource(type(component)).encode()).hexdigest()
    except (OSError, TypeError):
        return secrets.token_hex(16)


class CacheEntry(NamedTuple):
    """Say what a shelf holds: size in bytes, when it was used last in seconds since 1970."""

    key: str
    about: Mapping[str, Any]
    rows: int
    size: int
    used: float


@dataclass(frozen=True)
class PixelCache:
    """Find, fill, list and prune shelves below a folder."""

    root: Path

    @property
    def files(self) -> Path:
        """Return the folder of what is known of files."""
        return self.root / "files"

    def use(self, about: Mapping[str, Any]) -> tuple[RowFile, Lock]:
        """Return the shelf for a description, made if need be; none removes it under the lock.

        Raises ResourceError where it cannot be made.
        """
        folder = self._folder(about)
        while True:
            if not (folder / ABOUT).is_file():
                self._make(folder, about)
            with suppress(FileNotFoundError):
                if lock := locks.shared_lock(folder / ABOUT):
                    with suppress(OSError):  # a store may be read-only
                        os.utime(folder / ABOUT)
                    return RowFile.open(folder), lock
            time.sleep(_PAUSE)  # it is being removed

    def entries(self) -> list[CacheEntry]:
        """Return every shelf, the one used last first."""
        found = []
        for about in (self.root / "shelves").glob(f"[!.]*/{ABOUT}"):
            with suppress(FileNotFoundError):  # it is just being removed
                found.append(_entry(about.parent))
        return sorted(found, key=lambda entry: -entry.used)

    def prune(self, keys: Sequence[str] = (), unused: float = 0.0) -> list[CacheEntry]:
        """Remove shelves that nobody uses just now; return them.

        `keys` names some, by their beginnings; `unused` spares what was used in so many seconds.
        Raises SpecError for a key of none.
        """
        entries = self.entries()
        for key in keys:
            if not any(entry.key.startswith(key) for entry in entries):
                raise SpecError(
                    Problem("no-cache-entry", f"no shelf is called {key}", "sightx cache")
                )
        old = [entry for entry in entries if time.time() - entry.used >= unused]
        chosen = [entry for entry in old if not keys or entry.key.startswith(tuple(keys))]
        gone = [entry for entry in chosen if self._remove(self.root / "shelves" / entry.key)]
        self._sweep(0.0 if keys else unused)
        return gone

    @contextmanager
    def filling(self, shelf: RowFile, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the one process that fills a shelf; `waiting` is called while another does.

        Raises ResourceError where the store cannot be written.
        """
        file, said = shelf.folder / _FILLING, False
        with cache_disk_errors(shelf.folder):
            while (lock := locks.exclusive_lock(file, create=True)) is None:
                if not said:
                    holder = locks.describe_holder(locks.read_holder(file))
                    _log.info("waiting for %s, which fills the store", holder)
                    said = True
                waiting()
                time.sleep(_PAUSE)
            lock.write_holder()
        try:
            yield
        finally:
            lock.release()

    def _folder(self, about: Mapping[str, Any]) -> Path:
        text = json.dumps([FORMAT, about], sort_keys=True)
        return self.root / "shelves" / hashlib.sha256(text.encode()).hexdigest()[:16]

    def _make(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Make an empty shelf, whole or not at all; another process may be quicker."""
        temporary = folder.with_name(f"{_NEW}{secrets.token_hex(8)}")
        RowFile.create(temporary, about)
        try:
            with cache_disk_errors(folder):
                temporary.rename(folder)
        except (FileExistsError, ResourceError):
            shutil.rmtree(temporary)
            if not (folder / ABOUT).is_file():
                raise

    def _remove(self, folder: Path) -> bool:
        """Remove a shelf, unless somebody uses it."""
        with cache_disk_errors(folder):
            lock = locks.exclusive_lock(folder / ABOUT)
            if lock is None:
                return False
            hidden = folder.with_name(f"{_GONE}{secrets.token_hex(8)}")
            folder.rename(hidden)
        lock.release()
        shutil.rmtree(hidden)
        return True

    def _sweep(self, unused: float) -> None:
        """Remove what a process that was killed has left, and what is known of old files."""
        shelves, now = self.root / "shelves", time.time()
        left = [path for path in shelves.glob(f"{_NEW}*") if now - path.stat().st_mtime > _DAY]
        for folder in (*shelves.glob(f"{_GONE}*"), *left):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self.files.glob("*.bin"):
            if now - file.stat().st_mtime > max(unused, _DAY):
                file.unlink(missing_ok=True)


def _entry(folder: Path) -> CacheEntry:
    try:
        about = json.loads((folder / ABOUT).read_bytes())
    except ValueError:
        about = {}  # it can still be removed
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    rows = sizes.get(INDEX, 0) // RECORD.itemsize
    used = (folder / ABOUT).stat().st_mtime
    return CacheEntry(folder.name, about, rows, sum(sizes.values()), used)
