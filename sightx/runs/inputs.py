"""Copies of the files that an experiment names, in the folder `inputs` of a run directory.

A run that is resumed, evaluated or copied elsewhere reads the copies: what happens to the originals
does not matter to it. Large files are not copied; their hash is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sightx.io import atomic
from sightx.io.files import file_sha256
from sightx.registry.components import PathKind, to_plain
from sightx.runs.verdicts import flatten
from sightx.spec.experiment import Experiment

FOLDER = "inputs"
MAX_BYTES = 64_000_000
"""Size of the largest file that is copied."""
_FILE = "file:"
_KNOWN_BY_SAMPLES = {"dataset", "split"}  # a run records their samples, with hashes


def copy_inputs(directory: Path, experiment: Experiment) -> dict[str, Any]:
    """Copy the files that an experiment names, and return its tables with the paths of the copies.

    The paths are relative to the run directory. A file that was copied before is not copied again.
    Raises OSError.
    """
    return _tables(experiment, lambda file: copy_file(directory, file))


def tables_with_copies(directory: Path, experiment: Experiment) -> dict[str, Any]:
    """Return the tables of an experiment with the copies in the place of files of equal content."""
    return _tables(experiment, lambda file: _copy_of(directory, file) or str(file))


def copy_file(directory: Path, file: Path) -> str:
    """Copy a file into a run directory, and return the path of the copy below it.

    The copy keeps the name of the file. A file that is too large is not copied: its own path is
    returned. Raises OSError.
    """
    if existing := _copy_of(directory, file):
        return existing
    if file.stat().st_size > MAX_BYTES:
        return str(file)
    copy = next(path for path in _candidates(directory, file) if not path.exists())
    copy.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(copy, file.read_bytes())
    return copy.relative_to(directory).as_posix()


def copy_files(directory: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Copy those of some paths that are files, and return the paths of the copies."""
    paths = {key: Path(path) for key, path in files.items()}
    return {key: copy_file(directory, path) for key, path in paths.items() if path.is_file()}


def hash_large_files(experiment: Experiment) -> dict[str, str]:
    """Return the SHA-256 of each file that an experiment names and that is not copied, by name."""
    hashes = {}

    def remember(file: Path) -> str:
        if file.stat().st_size > MAX_BYTES:
            hashes[file.name] = _sha256(file)
        return str(file)

    _tables(experiment, remember)
    return hashes


def hash_contents(experiment: Experiment, weights: str) -> dict[str, str]:
    """Return the SHA-256 of each file that is part of an experiment, by the key that names it.

    The experiment id contains only the names of files. `weights` is the file of the initial
    weights, "" if they are not from a file. Files of the dataset and the split are left out: their
    samples are compared.
    """
    tables = _tables(experiment, lambda file: f"{_FILE}{file}")
    kept = {key: tables[key] for key in experiment.identity if key not in _KNOWN_BY_SAMPLES}
    files = {}
    for key, value in flatten(kept):
        texts = [str(item) for item in (value if isinstance(value, list) else [value])]
        files[key] = [Path(text.removeprefix(_FILE)) for text in texts if text.startswith(_FILE)]
    if weights:
        files["model.weights"] = [Path(weights)]
    return {key: " ".join(map(_sha256, paths)) for key, paths in files.items() if paths}


def _sha256(file: Path) -> str:
    """Return the hash of a file, which is read again only if it has changed."""
    state = file.stat()
    return _sha256_of_state(file.absolute(), state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of_state(file: Path, *_state: int) -> str:
    return file_sha256(file)


def resolve(directory: Path, path: str) -> str:
    """Return the path of a copy as an absolute path, and any other text unchanged."""
    return str(directory.absolute() / path) if is_copy(path) else path


def is_copy(value: object) -> bool:
    """Return whether a value in the tables of a run is the path of a copy."""
    return isinstance(value, str) and value.startswith(f"{FOLDER}/")


def _tables(experiment: Experiment, replace: Callable[[Path], str]) -> dict[str, Any]:
    def convert(value: Any, kind: PathKind) -> Any:
        if isinstance(value, tuple):
            return [convert(item, kind) for item in value]
        text = str(value)
        is_path = text.endswith(kind.suffixes or "") and not (kind.urls and "://" in text)
        return replace(Path(text)) if is_path and Path(text).is_file() else value

    tables: dict[str, Any] = to_plain(experiment, convert_path=convert)
    return tables


def _copy_of(directory: Path, file: Path) -> str:
    """Return the copy of equal content, below the run directory; "" if there is none."""
    for copy in _candidates(directory, file):
        if not copy.is_file():
            return ""
        if copy.samefile(file) or _has_same_content(copy, file):
            return copy.relative_to(directory).as_posix()
    return ""


def _candidates(directory: Path, file: Path) -> list[Path]:
    """Return where the copy of a file may be: files of one name and other contents get folders."""
    folder = directory / FOLDER
    return [folder / file.name, *(folder / str(number) / file.name for number in range(2, 100))]


def _has_same_content(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()
