"""What a dataset that SightX writes has beside its images: a whole folder, a spec that reads it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightx.errors import Problem, ResourceError, SpecError
from sightx.io import locks
from sightx.io.toml import Key, Position
from sightx.records.table import ImageTable
from sightx.registry.kinds import Dataset
from sightx.registry.project import LOCAL
from sightx.spec import render
from sightx.spec.experiment import Experiment

SPEC = "spec.toml"
_WRITING, _LOCK = ".writing", ".writing.lock"


@dataclass(frozen=True)
class ExportReport:
    """Say what was written, in bytes; `dataset` is the table that names it, from its folder."""

    samples: int
    size: int
    dataset: dict[str, Any]


@contextmanager
def atomic_export(folder: Path, last: str) -> Iterator[Path]:
    """Yield a folder to write files in; without an error they move to `folder`, `last` as the last.

    So `last` is there only when all is. What a process that was killed has left is removed. Raises
    SpecError where the folder holds anything else, or another process writes it.
    """
    writing = folder / _WRITING
    with _alone(folder):
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        try:
            yield writing
            names = sorted(path.name for path in writing.iterdir() if path.name != last)
            for name in (*names, last):
                _sync(writing / name)
                (writing / name).rename(folder / name)
            _sync(folder)
        finally:
            shutil.rmtree(writing, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the one process that writes a folder, which is empty but for what a dead one has left."""
    _refuse_others(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _LOCK
    try:
        lock = locks.exclusive_lock(file, create=True)
    except ResourceError as error:
        file.unlink(missing_ok=True)
        problems = (replace(each, hint="give a folder on another disk") for each in error.problems)
        raise ResourceError(*problems) from error
    if lock is None:
        message, hint = (
            f"{locks.describe_holder(locks.read_holder(file))} is writing {folder}",
            "give another folder, or wait",
        )
        raise SpecError(Problem("exists", message, hint))
    try:
        lock.write_holder()
        _refuse_others(folder)  # it may have been written since
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()


def _refuse_others(folder: Path) -> None:
    others = {path.name for path in folder.glob("*")} - {_WRITING, _LOCK}
    if others:
        message = f"{folder} is not empty: it holds {', '.join(sorted(others)[:3])}"
        raise SpecError(Problem("exists", message, "give a new folder, or remove it first"))


def _sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def dataset_table(experiment: Experiment, table: ImageTable, use: str) -> dict[str, Any]:
    """Return the [dataset] table by which a spec names what was written of a table.

    It says of bad images what the experiment says, and of shards how they are decoded.
    """
    traits = experiment.dataset.traits()
    facts = {
        "ordered": table.ordered,
        "handed": traits.handed,
        "groups": bool((table.frame["group"] != "").any()),
        "split": "split" in table.frame,
    }
    said: dict[str, Any] = {key: True for key, value in facts.items() if value}
    dataset, kept = experiment.dataset, ("on_bad_image", "bad_images_at_most", "decode")
    for key in kept[: 2 if use == "packed" else 3]:  # what was packed is not decoded again
        if (value := getattr(dataset, key)) != Dataset.model_fields[key].default:
            said[key] = value
    return {"use": use, "root": ".", "classes": list(table.classes), **said}


def export_spec(
    experiment: Experiment, dataset: Mapping[str, Any], *, prepared: bool = False
) -> str:
    """Return the experiment's spec with another dataset, as its author wrote it but for comments.

    What it extends and `--set` are laid in, and paths are absolute. With `prepared` its chain of
    `preprocess` is left out.
    """
    context = experiment.context
    said = experiment.tables()
    if context.path:
        said = _said(context.spec.data, context.spec.positions, ())
    left = {key: value for key, value in said.items() if key not in ("dataset", "extends")}
    if prepared:
        left.pop("preprocess", None)
    return render.render_tables({"name": experiment.name, "dataset": dict(dataset), **left})


def _said(data: Any, positions: Mapping[Key, Position], key: Key) -> Any:
    """Return what of some data a file or an option has said; not what is a default."""
    if isinstance(data, dict):
        pairs = {name: (*key, name) for name in data}
        kept = [name for name, here in pairs.items() if _is_said(here, positions)]
        return {name: _said(data[name], positions, pairs[name]) for name in kept or data}
    if isinstance(data, list) and any(isinstance(item, dict) for item in data):
        places = [(*key, number) for number in range(len(data))]
        kept_items = [number for number, here in enumerate(places) if _is_said(here, positions)]
        return [_said(data[number], positions, places[number]) for number in kept_items or
                range(len(data))]  # fmt: skip
    return data


def _is_said(key: Key, positions: Mapping[Key, Position]) -> bool:
    return key in positions and Path(positions[key].file).name != LOCAL
