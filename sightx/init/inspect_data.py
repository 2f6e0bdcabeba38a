"""Look at data that have no spec yet, through the datasets that will read them."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sightx.data.decode.decoder import FORMATS
from sightx.errors import DataError, PluginError, Problem
from sightx.init.columns import Columns, infer_columns, infer_scale
from sightx.init.write_spec import DatasetFacts
from sightx.records.table import ImageTable
from sightx.registry.components import UnknownComponentError, validate_settings
from sightx.registry.registry import Registry

_TRAIN = ("train", "training")
_OTHERS = ("validation", "val", "valid", "test", "testing")
_SAMPLE = 50  # images whose headers are read
_GREY = ("1", "L", "LA", "I", "I;16", "F")
_ENDING = re.compile(r"(.+)[_-](left|right|l|r|od|os|[0-9]+)", re.IGNORECASE)

Table = dict[str, Any]


class _Header(NamedTuple):
    height: int
    width: int
    grey: bool


def inspect_data(data: Path, registry: Registry, folder: Path | None) -> DatasetFacts:
    """Return what a folder of images, or a CSV file, holds; `folder` is where the spec will be.

    Raises DataError, as reading the data in a run would.
    """
    there = data.absolute() if str(data).startswith("@") else data  # a folder, not a place
    settings, reasons = _settings(there)
    table = _open(settings, registry)
    order = infer_scale(table.classes, str(settings.get("label", "")))
    if order.classes and not table.ordered:
        settings |= {"classes": list(order.classes), "ordered": True}
        table = _open(settings, registry)
    reasons.setdefault("ordered" if order.classes else "use", order.reason)
    return _facts(data, settings, reasons, table, folder)


def _settings(data: Path) -> tuple[Table, dict[str, str]]:
    """Return the dataset's table for what lies there, and reasons for some of its keys."""
    if not data.exists():
        raise _failure("missing-data", f"{data} does not exist", "give a folder or a CSV file")
    if not data.is_dir():
        return _from_csv(data)
    inside = _visible(data)
    sides = [path for path in inside if path.name in _TRAIN and _visible(path)]
    if sides:
        return {"use": "image-folder", "root": str(data)}, {}
    files = sorted(data.glob("*.csv"))
    if files and len([path for path in inside if path.name not in _TRAIN + _OTHERS]) < 2:
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:8])
            raise _failure("several-files", f"{data} holds {names}", f"give one: {files[0]}")
        return _from_csv(files[0])
    return {"use": "image-folder", "root": str(data), "layout": "flat"}, {}


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _from_csv(path: Path) -> tuple[Table, dict[str, str]]:
    found: Columns = infer_columns(path)
    settings: Table = {"use": "eyepacs" if found.eyepacs else "csv", "root": str(path.parent)}
    settings |= {"labels": path.name, "images": found.images}
    if found.eyepacs:
        return settings, {"use": "image and level, left and right eyes: the form of EyePACS."}
    said = {key: getattr(found, key) for key in ("image", "label", "group", "split", "suffix")}
    return {**settings, **{key: value for key, value in said.items() if value}}, {}


def _open(settings: Table, registry: Registry) -> ImageTable:
    """Return the table of a dataset. Raises DataError, PluginError."""
    given = {key: value for key, value in settings.items() if key != "use"}
    try:
        cls: Any = registry.find("dataset", settings["use"])
    except UnknownComponentError as error:
        hint = "SIGHTX_PLUGINS=none loads only what ships with SightX"
        raise PluginError(replace(error.problem, hint=hint)) from None
    table: ImageTable = validate_settings(cls, given, registry).table()
    if not len(table):
        raise _failure("no-samples", "there are no samples", "it needs rows", table.source)
    return table


def _facts(
    data: Path, settings: Table, reasons: Mapping[str, str], table: ImageTable, folder: Path | None
) -> DatasetFacts:
    path = Path(settings["root"])
    root = (Path(os.path.relpath(path, folder)) if folder else path.absolute()).as_posix()
    settings["root"] = f"./{root}" if root.startswith(("@", "~")) else root
    headers, unreadable = _headers(table)
    sides = _sides(table)
    rows = np.flatnonzero(table.frame["split"] == "train") if sides else np.arange(len(table))
    rarest = _rarest(table, rows)
    if rarest < 2 and "validation" not in sides:
        name = table.classes[int(np.argmin(table.counts(rows)))]
        message = f"class {name!r} has too few samples to train and validate with"
        raise _failure("rare-class", message, "add some, or leave out the class", table.source)
    groups = {group for group in table.frame["group"] if group}
    remarks = [*_alike(table, groups), *([unreadable] if unreadable else [])]
    height, width = (int(np.median(sizes)) for sizes in list(zip(*headers, strict=True))[:2])
    return DatasetFacts(
        name=_name(data),
        source=root,
        dataset=settings,
        reasons=reasons,
        classes=table.classes,
        counts=tuple(table.counts(rows)),
        ordered=table.ordered,
        samples=len(table),
        sides=sides,
        groups=len(groups),
        rarest=rarest,
        size=(height, width),
        grey=all(header.grey for header in headers),
        remarks=tuple(remarks),
    )


def _name(data: Path) -> str:
    """Return a name for runs: that of the folder, or of the file."""
    there = data.resolve()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", there.name if data.is_dir() else there.stem)
    return name.strip("._-")[:64] or "experiment"


def _sides(table: ImageTable) -> dict[str, int]:
    """Return the number of samples on each side that the data bring."""
    if "split" not in table.frame:
        return {}
    counts = Counter(table.frame["split"])
    return {side: counts[side] for side in ("train", "validation", "test") if counts[side]}


def _rarest(table: ImageTable, rows: np.ndarray[Any, Any]) -> int:
    """Return how many samples, or groups, can be dealt of the class that has fewest."""
    members = set(zip(table.labels[rows].tolist(), table.groups[rows].tolist(), strict=True))
    counts = Counter(label for label, _ in members)
    return min(counts[label] for label in range(len(table.classes)))


def _headers(table: ImageTable) -> tuple[list[_Header], str]:
    """Return the headers of some images, and a word on those that cannot be read."""
    chosen = np.unique(np.linspace(0, len(table) - 1, _SAMPLE).astype(int))
    found = {int(index): _header(table, int(index)) for index in chosen}
    good = [header for header in found.values() if header]
    bad = [str(table.frame["path"].iat[index]) for index, header in found.items() if not header]
    if not good:
        message = f"none of {len(found)} images can be read; first: {bad[0]}"
        raise _failure("bad-images", message, "are these images?", table.source)
    if not bad:
        return good, ""
    word = f"{len(bad)} of {len(found)} sampled images cannot be read, such as {bad[0]}."
    return good, f'{word} See dataset.on_bad_image = "skip".'


def _header(table: ImageTable, index: int) -> _Header | None:
    """Return the size of an image, and whether it has no colour; None for what is none."""
    try:
        data = table.read(index)
        if isinstance(data, np.ndarray):
            return _Header(data.shape[0], data.shape[1], grey=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the decoder will judge the image, not this look
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _Header(image.height, image.width, image.mode in _GREY)
    except Exception:  # Pillow raises what it likes for what is no image
        return None


def _alike(table: ImageTable, groups: set[str]) -> list[str]:
    """Return a warning where names tell of groups that the dataset does not know."""
    stems = [Path(path).stem for path in table.frame["path"]]
    begun = [(match[1], stem) for stem in stems if (match := _ENDING.fullmatch(stem))]
    counts = Counter(start for start, _ in begun)
    shared = [(start, stem) for start, stem in begun if counts[start] > 1]
    starts = {start for start, _ in shared}
    if groups or len(shared) < len(table) / 2 or len(starts) < len(shared) / 20:
        return []  # img_1 to img_500 are no group
    first = [stem for start, stem in shared if start == shared[0][0]][:2]
    return [
        f"Beware: {len(shared)} names begin like another, as {' and '.join(first)} do. If such "
        "images show one patient, animal or place, they must be on one side: describe them in a "
        'CSV file with a column for it, and say dataset.use = "csv" with group = "COLUMN".'
    ]  # fmt: skip


def _failure(code: str, message: str, hint: str, file: str = "") -> DataError:
    return DataError(Problem(code, message, hint, file=file))
