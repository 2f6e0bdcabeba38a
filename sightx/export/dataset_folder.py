"""The folder of an exported dataset: index.csv, a description in JSON, a spec that reads it."""

from __future__ import annotations

import io
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
import pandas as pd
from pydantic import NonNegativeInt, ValidationError

from sightx.data.cache.row_file import ABOUT, ROWS
from sightx.data.cache.row_file import INDEX as ROW_INDEX
from sightx.data.classes import class_positions
from sightx.errors import DataError, Problem, SpecError, first_line
from sightx.export.storage import Storage
from sightx.io import atomic, locks, toml
from sightx.io.csv_cells import csv_bytes, unescape_frame
from sightx.io.locks import Lock
from sightx.io.toml import Key, Position
from sightx.records import SPLITS
from sightx.records.table import ImageTable
from sightx.registry.components import Settings, Traits
from sightx.registry.kinds import Dataset
from sightx.registry.project import LOCAL
from sightx.spec import render
from sightx.spec.experiment import Experiment

INDEX, SPEC = "index.csv", "spec.toml"

_WRITING, _LOCK = ".writing", ".writing.lock"
_SAMPLE_COLUMNS = ("path", "label", "group")
_EXTRA = "column:"  # before the names of extra columns, which could be those of an index
_DTYPES = {"label": "category", "shard": "category", "offset": np.int64, "size": np.int64}


class Description(Settings):
    """What a folder contains. It is written last, so that a folder that has one is complete."""

    format: Literal[1] = 1
    classes: tuple[str, ...]
    ordered: bool
    samples: NonNegativeInt


AnyDescription = TypeVar("AnyDescription", bound=Description)


@dataclass(frozen=True)
class ExportReport:
    """What was written: the samples, their bytes, and the [dataset] table of a spec."""

    samples: int
    size: int
    dataset: dict[str, Any]


@contextmanager
def atomic_export(folder: Path, last: str) -> Iterator[Path]:
    """Yield a folder to write files in; at the end they move to `folder`, the file `last` last.

    After an error `folder` is empty. What a killed process left there is removed: its lock file
    says which files it was moving. Raises SpecError if the folder contains anything else or another
    process writes it, ResourceError if it cannot be written.
    """
    writing = folder / _WRITING
    with _export_lock(folder, last) as lock:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        moving: list[str] = []
        try:
            yield writing
            names = (path.name for path in writing.iterdir())
            moving = sorted(names, key=lambda name: (name == last, name))
            lock.write_holder(moving=moving)
            for name in moving:
                atomic.fsync(writing / name)
                (writing / name).rename(folder / name)
            atomic.fsync(folder)
        except BaseException:
            _remove_moved(folder, moving)
            raise
        finally:
            shutil.rmtree(writing, ignore_errors=True)


@contextmanager
def _export_lock(folder: Path, last: str) -> Iterator[Lock]:
    """Be the only process that writes to a folder without files of others."""
    file, hint = folder / _LOCK, "choose a folder on another disk"
    _require_empty(folder, last)
    with atomic.disk_errors(folder, hint=hint, full_hint=hint):
        folder.mkdir(parents=True, exist_ok=True)
        lock = locks.exclusive_lock(file, create=True)
    if lock is None:
        message = f"{locks.describe_holder(locks.read_holder(file))} is writing {folder}"
        raise SpecError(Problem("exists", message, "choose another folder, or wait"))
    with lock:
        _require_empty(folder, last)  # another process may have written it since
        with atomic.disk_errors(folder, hint=hint):
            _remove_moved(folder, locks.read_holder(file).get("moving", ()))
        try:
            lock.write_holder()
            yield lock
        finally:
            file.unlink(missing_ok=True)


def _require_empty(folder: Path, last: str) -> None:
    """Raise SpecError if a folder contains anything but what a killed process has left there."""
    names, left = {path.name for path in folder.glob("*")}, set[str]()
    if locks.is_lock_file(folder / _LOCK):
        left = {_WRITING, _LOCK, *locks.read_holder(folder / _LOCK).get("moving", ())}
    if last in names:  # it is complete
        left = {_WRITING, _LOCK}
    if others := sorted(names - left):
        message = f"{folder} is not empty: it contains {', '.join(others[:3])}"
        raise SpecError(Problem("exists", message, "choose a new folder, or remove it first"))


def _remove_moved(folder: Path, names: Sequence[str]) -> None:
    """Remove files, and folders of pixels, that were moved to a folder by an unfinished export."""
    for path in (folder / Path(name).name for name in names):
        if path.is_dir() and not path.is_symlink():
            for name in (ABOUT, ROWS, ROW_INDEX):
                (path / name).unlink(missing_ok=True)
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def write_metadata(folder: Path, table: ImageTable, columns: pd.DataFrame, spec: str) -> None:
    """Write a spec, and an index: a row per sample, and `columns`, with `sha256`, after its own."""
    (folder / SPEC).write_text(spec, encoding="utf-8")
    labels = np.array(table.classes, dtype=object)[table.labels]
    names = [*_SAMPLE_COLUMNS, *(["split"] if "split" in table.frame else [])]
    rows = table.frame.assign(label=labels)[names].reset_index(drop=True)
    extra = table.frame[list(table.columns)].add_prefix(_EXTRA).reset_index(drop=True)
    (folder / INDEX).write_bytes(csv_bytes(pd.concat([rows, extra, columns], axis=1)))


def write_description(path: Path, description: Description) -> None:
    """Write a description as JSON."""
    path.write_text(description.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_description(
    cls: type[AnyDescription], storage: Storage, name: str, hint: str
) -> AnyDescription:
    """Return the description in the file `name`; `hint` says how to get one. Raises DataError."""
    try:
        return cls.model_validate_json(storage.read(name, hint))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise_damaged(f"{storage.root}/{name}", f"is not valid: {key} {first['msg']}")


def read_index(
    storage: Storage, description: Description, hint: str, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the rows of an index: labels as positions, and `line`, the line of each row.

    `columns` are required in addition to those of each sample. Raises DataError, naming the line.
    """
    file, content = f"{storage.root}/{INDEX}", storage.read(INDEX, hint)
    dtypes: dict[str, Any] = defaultdict(lambda: str, _DTYPES)
    try:
        rows = pd.read_csv(io.BytesIO(content), dtype=dtypes, keep_default_na=False)
    except (ValueError, OverflowError) as error:  # pandas' parser errors are ValueErrors
        raise_damaged(file, f"is not a valid index: {first_line(error)}")
    rows = unescape_frame(rows) if b"'" in content else rows
    missing = [name for name in (*_SAMPLE_COLUMNS, *columns, "sha256") if name not in rows]
    if missing:
        raise_damaged(file, f"has no column {', '.join(missing)}")
    if len(rows) != description.samples:
        raise_damaged(file, f"has {len(rows)} rows, {description.samples} were written")
    rows["line"] = np.arange(len(rows)) + 2
    known = class_positions(map(str, rows["label"].cat.categories), description.classes)
    rows["label"] = category_positions(rows["label"], known)
    refuse_rows(rows, rows["label"] < 0, file, "has a label that is not a class")
    is_hash = rows["sha256"].str.fullmatch("[0-9a-f]{64}")
    refuse_rows(rows, ~is_hash, file, "has an incomplete SHA-256")
    refuse_rows(rows, rows["path"].duplicated(), file, "occurs twice")
    if "split" in rows:
        refuse_rows(rows, ~rows["split"].isin([*SPLITS, ""]), file, "has an unknown split")
    return rows


def category_positions(
    column: pd.Series[Any], positions: Mapping[str, int]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the position of each cell of a categorical column, -1 if it has none."""
    # pandas reads names that are numbers as numbers. The code of an empty cell is -1, which selects
    # the last -1.
    by_code = [*(positions.get(str(name), -1) for name in column.cat.categories), -1]
    return np.array(by_code, dtype=np.int64)[column.cat.codes]


def index_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of an index that a table's frame has, with the extra ones."""
    own = [name for name in (*_SAMPLE_COLUMNS, "split", "line", "sha256") if name in rows]
    extra = {_EXTRA + name: name for name in extra_columns(rows)}
    return rows[[*own, *extra]].rename(columns=extra)


def extra_columns(rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the names of the extra columns of an index."""
    names = map(str, rows.columns)
    return tuple(name.removeprefix(_EXTRA) for name in names if name.startswith(_EXTRA))


def check_traits(table: ImageTable, traits: Traits) -> ImageTable:
    """Return the table if a spec describes it correctly. Raises DataError if not."""
    pairs = {
        "classes": (list(traits.classes or table.classes), list(table.classes)),
        "ordered": (traits.ordered, table.ordered),
        "groups": (traits.has_groups, _has_groups(table)),
        "split": (traits.has_split, "split" in table.frame),
        "shape": (traits.shape, table.shape),
        "extra_columns": (traits.columns, table.columns),
    }
    for key, (stated, actual) in pairs.items():
        if stated != actual:
            value = list(actual) if isinstance(actual, tuple) else actual
            message, hint = "is not what was written", f"{key} = {toml.dump_value(value)}"
            raise DataError(Problem("other-traits", message, hint, f"dataset.{key}", table.source))
    return table


def _has_groups(table: ImageTable) -> bool:
    return bool((table.frame["group"] != "").any())


def refuse_rows(rows: pd.DataFrame, is_wrong: pd.Series[bool], file: str, reason: str) -> None:
    """Raise DataError for the first row of an index that is wrong."""
    if is_wrong.any():
        row = rows[is_wrong.to_numpy()].iloc[0]
        hint = "fix the row, or write the folder again"
        problem = Problem("not-as-written", f"{row['path']!r} {reason}", hint)
        raise DataError(problem.at(file, int(row["line"])))


def raise_damaged(file: str, reason: str) -> NoReturn:
    """Raise DataError for a file that is not as it was written."""
    raise DataError(Problem("not-as-written", reason, "write the folder again", file=file))


def dataset_table(experiment: Experiment, table: ImageTable, use: str) -> dict[str, Any]:
    """Return the [dataset] table of a spec that reads an exported table.

    It keeps the experiment's settings for bad images and, except for packs, for decoding.
    """
    dataset = experiment.dataset
    flags = {
        "ordered": table.ordered,
        "handed": dataset.traits().handed,
        "groups": _has_groups(table),
        "split": "split" in table.frame,
    }
    settings: dict[str, Any] = {key: True for key, value in flags.items() if value}
    if table.columns:
        settings["extra_columns"] = list(table.columns)
    kept = ["on_bad_image", "bad_images_at_most", *(["decode"] if use != "packed" else [])]
    for key in kept:
        if (value := getattr(dataset, key)) != Dataset.model_fields[key].default:
            settings[key] = value
    return {"use": use, "root": ".", "classes": list(table.classes), **settings}


def export_spec(
    experiment: Experiment, dataset: Mapping[str, Any], *, preprocessed: bool = False
) -> str:
    """Return the experiment's spec with another dataset, as its author wrote it but for comments.

    What it extends and `--set` are merged, and paths are absolute. With `preprocessed` it has no
    `preprocess`.
    """
    context, tables = experiment.context, experiment.tables()
    if context.path:
        tables = _written_values(context.spec.data, context.spec.positions, ())
    dropped = {"dataset", "extends", *(["preprocess"] if preprocessed else [])}
    others = {key: value for key, value in tables.items() if key not in dropped}
    return render.render_tables({"name": experiment.name, "dataset": dict(dataset), **others})


def _written_values(data: Any, positions: Mapping[Key, Position], key: Key) -> Any:
    """Return the values of a spec's files and of --set, but no defaults and no local settings."""
    if isinstance(data, list) and any(isinstance(item, dict) for item in data):
        return list(_written_values(dict(enumerate(data)), positions, key).values())
    if not isinstance(data, dict):
        return data
    written = {name: value for name, value in data.items() if _is_written((*key, name), positions)}
    # An inline table has one position, so that none of its keys has one.
    items = (written or data).items()
    return {name: _written_values(value, positions, (*key, name)) for name, value in items}


def _is_written(key: Key, positions: Mapping[Key, Position]) -> bool:
    return key in positions and Path(positions[key].file).name != LOCAL
