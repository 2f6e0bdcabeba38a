"""Inspect data that have no spec yet: folders of images, or CSV files of labels."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sightx.data.cache.file_hashes import stat_files
from sightx.data.classes import class_key, known_scale
from sightx.data.dataset import check_names
from sightx.data.decode.decoder import FORMATS
from sightx.data.decode.formats import is_image_name, read_format
from sightx.errors import DataError, PluginError, Problem
from sightx.init.check_table import check_class_sizes, check_missing_images, class_sizes
from sightx.init.find_images import csv_files, unwrap_folder, visible_folders
from sightx.init.infer_columns import csv_files_settings
from sightx.init.write_spec import DatasetFacts
from sightx.io.files import LEADS_OUT, is_unicode, shell_path
from sightx.records import SPLITS, split_called
from sightx.records.faults import Faults, allow_empty_classes
from sightx.records.pixels import Positions
from sightx.records.table import ImageTable
from sightx.registry.components import UnknownComponentError, validate_settings
from sightx.registry.project import Project
from sightx.registry.registry import Registry

_GRADE_COLUMNS = ("level", "grade", "severity", "stage", "score", "rating")
_TABLE_ENDINGS = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".parquet", ".mat", ".txt")
# Settings that another reader of a folder would add, by the code of the error without them.
_WAYS_OUT: dict[str, dict[str, Any]] = {
    "empty-class": {"others": "drop"},
    "class-unknown": {"others": "drop"},
    "linked-folder": {"follow_links": True},
}
# How a hint ends that names a setting, which somebody without a spec cannot change.
_SETTING = re.compile(r",? or [^,]*\bdataset\.[a-z_]+.*")
_SAMPLE_SIZE = 50  # images whose headers are read
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")
_PAIRED_NAME = re.compile(r"(.+)[_-](left|right|l|r|od|os|[0-9]+)", re.IGNORECASE)


class Scale(NamedTuple):
    """Classes in their order if they look like grades, and a remark for the spec."""

    classes: tuple[str, ...] = ()
    remark: str = ""


class _Header(NamedTuple):
    height: int
    width: int
    is_grey: bool


def inspect_data(
    data: Path,
    registry: Registry,
    project: Project | None = None,
    scored_classes: Sequence[str] | None = None,
) -> DatasetFacts:
    """Return the facts about a folder of images or a CSV file.

    The root is absolute, or below a place of `project`, so that a copy of the spec elsewhere means
    the same data. `scored_classes` are those of a run that the data are only to score: classes may
    then have few samples or none. Raises DataError, as reading the data in a run would.
    """
    path = data.absolute() if str(data).startswith("@") else data  # a folder, not a place
    if not is_unicode(str(path.absolute())):
        message = "the path is not UTF-8, as a spec must be"
        raise _error("path-invalid", message, "rename it", str(data))
    settings, remarks = _dataset_settings(path)
    dropped, faults = list[str](), Faults()

    def load() -> ImageTable:
        return _load_table(settings, registry, dropped, scored_classes)

    table = faults.collect(load)
    scale = infer_scale(table.classes, str(settings.get("label", "")))
    if scale.classes and not table.ordered:
        settings |= {"classes": list(scale.classes), "ordered": True}
    remarks.setdefault("ordered" if scale.classes else "use", scale.remark)
    if links := list(stat_files(table).errors.values()).count(LEADS_OUT):
        settings["follow_links"] = True
        remarks["follow_links"] = f"{links:,} images are links out of {table.root}."
    table = Faults().collect(load)
    missing = check_missing_images(table, Path(settings["root"]), faults)
    if scored_classes is None and "validation" not in _split_counts(table):
        check_class_sizes(table, _training_rows(table), faults)
    faults.refuse(None)
    settings["root"] = _portable_root(Path(settings["root"]), project)
    facts = _facts(_experiment_name(data), str(data), settings, remarks, table)
    return replace(facts, remarks=(*dropped, *missing, *facts.remarks))


def _portable_root(root: Path, project: Project | None) -> str:
    """Return a folder as `@place/folder` if it is below a place of the project, else absolute."""
    root = Path(os.path.abspath(root))  # noqa: PTH100 - Path.absolute keeps `..`
    for name in project.places if project else ():
        place = project.place(name) if project else None
        if place and root.is_relative_to(place):
            return (Path(f"@{name}") / root.relative_to(place)).as_posix()
    return str(root)


def _dataset_settings(data: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the [dataset] table for some data, and remarks on some of its keys."""
    if not data.exists():
        raise _error("missing-data", f"{data} does not exist", "give a folder or a CSV file")
    if not data.is_dir():
        _require_table(data)
        return csv_files_settings(sorted({*csv_files(data.parent), data}), data)
    root = unwrap_folder(data)
    remarks = {"root": f"{data} contains only this folder."} if root != data else {}
    folders = visible_folders(root)
    files, tables = csv_files(root), _tables_in_folders(folders)
    has_train = any(split_called(one.name) == "train" and visible_folders(one) for one in folders)
    if has_train and not (tables and not files):
        return {"use": "image-folder", "root": str(root)}, remarks
    if files and len([folder for folder in folders if not split_called(folder.name)]) < 2:
        settings, csv_remarks = csv_files_settings(files)
        return settings, {**remarks, **csv_remarks}
    if tables and not files:
        settings, csv_remarks = csv_files_settings(tables, root=root)
        return settings, {**remarks, **csv_remarks}
    settings = {"use": "image-folder", "root": str(root)}
    splits = {folder: split for folder in folders if (split := split_called(folder.name))}
    have_classes = any(len(visible_folders(folder)) > 1 for folder in splits)
    may_be_classes = len(splits) < len(folders) and "train" not in splits.values()
    if not splits or (may_be_classes and not have_classes):  # such as `test` and `control`
        settings["layout"] = "class-split" if _are_split_inside(folders) else "flat"
    return settings, remarks


def _require_table(file: Path) -> None:
    """Raise DataError for a file that is clearly not a CSV file of labels."""
    ending = file.suffix.lower()
    if not file.is_file():  # a pipe would wait
        message, hint = "is neither a folder nor a file", "give a folder or a CSV file"
    elif is_image_name(file.name) or read_format(file):
        message, hint = "is an image", "give the folder of all images, or a CSV file"
    elif ending == ".toml":
        message, hint = "is a spec", f"sightx validate {shell_path(file)}"
    elif ending in _TABLE_ENDINGS and ending != ".txt":
        message, hint = f"is not a CSV file ({ending})", "save it as CSV: file name and class"
    else:
        return
    raise _error("missing-data", message, hint, str(file))


def _tables_in_folders(folders: Sequence[Path]) -> list[Path]:
    """Return the CSV files of folders of splits, or of the one folder that has any.

    There are none if the folders, or those in a folder of a split, are more likely classes.
    """
    tables = {folder: files for folder in folders if (files := csv_files(folder))}
    if not all(split_called(folder.name) for folder in tables):
        others = [one for one in folders if one not in tables and not split_called(one.name)]
        if len(tables) > 1 or len(others) > 1:
            return []
    if any(len(visible_folders(folder)) > 1 for folder in tables):
        return []
    return [file for files in tables.values() for file in files]


def _are_split_inside(folders: Sequence[Path]) -> bool:
    """Return whether several folders, which may be those of classes, contain a training split."""
    inside = [
        any(split_called(inner.name) == "train" for inner in visible_folders(folder))
        for folder in folders
    ]
    return sum(inside) > 1


def infer_scale(classes: Sequence[str], label: str) -> Scale:
    """Return the order of classes that look like grades, with the reason.

    `label` is the column of the class, "" for folders.
    """
    if len(classes) > 2 and (scale := known_scale(classes)):
        return Scale(scale, "The names are a scale, so these are grades: see qwk.")
    values = {name: class_key(name) for name in classes}
    if not all(value.isdecimal() for value in values.values()) or len(classes) < 3:
        return Scale()
    ordered = sorted(classes, key=lambda name: int(values[name]))
    first = int(values[ordered[0]])
    numbers = [int(values[name]) for name in ordered]
    if first > 1 or numbers != list(range(first, first + len(ordered))):
        return Scale()
    span = f"{ordered[0]} to {ordered[-1]}"
    if label.lower() in _GRADE_COLUMNS:
        return Scale(
            tuple(ordered),
            f"Whole numbers from {span} in a column called {label!r} look like grades: neighbours "
            "are similar, and qwk measures how far a decision is off. If they are only names, "
            "set ordered = false, and balanced-accuracy in place of qwk.",
        )
    return Scale(
        (),
        f"The classes are numbers from {span}. If they are grades, set ordered = true: qwk then "
        "measures how far a decision is off.",
    )


def _load_table(
    settings: dict[str, Any],
    registry: Registry,
    remarks: list[str],
    scored_classes: Sequence[str] | None,
) -> ImageTable:
    """Return the table of a dataset; add settings that it needs, and remarks on classes left out.

    Raises DataError, which is IncompleteTableError if only some rows are wrong; PluginError.
    """
    values = {key: value for key, value in settings.items() if key != "use"}
    try:
        cls: Any = registry.find("dataset", settings["use"])
    except UnknownComponentError as error:
        hint = "SIGHTX_PLUGINS=none loads only what ships with SightX"
        raise PluginError(replace(error.problem, hint=hint)) from None
    try:
        load = validate_settings(cls, values, registry).table
        table: ImageTable = load() if scored_classes is None else allow_empty_classes(load)
    except DataError as error:
        for way_out in _ways_out(error, settings, scored_classes or ()):
            changed = settings | way_out
            with suppress(DataError):
                table = _load_table(changed, registry, remarks, scored_classes)
                settings |= changed
                remarks += _dropped(error) if "others" in way_out else []
                return table
        raise _for_init(error, settings, scored_classes or ()) from None
    if not len(table):
        raise _error("no-samples", "there are no samples", "add a row per image", table.source)
    faults = Faults()
    return faults.refuse(check_names(table, faults))


def _ways_out(
    error: DataError, settings: Mapping[str, Any], scored_classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return settings that may make an error of a dataset go away, the likely ones first.

    Data of one class can be scored: it is one of a run's classes, or the position of one.
    """
    code = error.problems[0].code
    if code == "no-classes" and scored_classes and "classes" not in settings:
        positions = [str(position) for position in range(len(scored_classes))]
        return [{"classes": list(scored_classes)}, {"classes": positions}]
    way_out = _WAYS_OUT.get(code, {})
    return [way_out] if way_out and not settings.items() >= way_out.items() else []


def _dropped(error: DataError) -> Iterator[str]:
    """Yield a warning for each class that is left out because of an error."""
    for problem in error.problems:
        if problem.code in _WAYS_OUT:
            message = f"{problem.file}: {problem.message}"
            yield f'Warning: {message}; others = "drop" leaves it out.'


def _for_init(
    error: DataError, settings: Mapping[str, Any], scored_classes: Sequence[str]
) -> DataError:
    """Return an error of a dataset with hints that work for `sightx init`, or for a score."""
    problem, *others = (
        replace(one, hint=_SETTING.sub("", one.hint.replace("--set dataset.root=", "sightx init ")))
        for one in error.problems
    )
    if scored_classes and problem.hint.startswith("a classifier needs"):
        problem = replace(problem, hint=f"the run has {', '.join(scored_classes[:8])}")
    elif settings["use"] == "image-folder" and problem.code in ("no-classes", "no-split"):
        files = sorted(Path(settings["root"]).iterdir())
        tables = [file.name for file in files if file.suffix.lower() in _TABLE_ENDINGS]
        if tables:
            hint = f"if {tables[0]} has the labels, save it as CSV: file name and class of an image"
            problem = replace(problem, hint=hint)
    error.problems = problem, *others
    return error


def _facts(
    name: str, source: str, settings: dict[str, Any], remarks: Mapping[str, str], table: ImageTable
) -> DatasetFacts:
    headers, unreadable = _read_headers(table)
    splits, rows = _split_counts(table), _training_rows(table)
    groups = {group for group in table.frame["group"] if group}
    pairs = "" if groups else _paired_names(table)
    height, width = (int(np.median(sizes)) for sizes in list(zip(*headers, strict=True))[:2])
    return DatasetFacts(
        name=name,
        source=source,
        dataset=settings,
        reasons=remarks,
        classes=table.classes,
        counts=tuple(table.counts(rows)),
        ordered=table.ordered,
        samples=len(table),
        splits=splits,
        groups=len(groups),
        rarest=min(class_sizes(table, rows)),
        size=(height, width),
        grey=all(header.is_grey for header in headers),
        remarks=tuple(filter(None, [pairs, unreadable, *_survey_remarks(table)])),
    )


def _split_counts(table: ImageTable) -> dict[str, int]:
    """Return the number of samples of each split that the data have."""
    counts = Counter(table.frame["split"]) if "split" in table.frame else Counter[str]()
    return {split: counts[split] for split in SPLITS if counts[split]}


def _training_rows(table: ImageTable) -> Positions:
    """Return the rows of the training split, or all rows of data without splits."""
    is_split = bool(_split_counts(table))
    return np.flatnonzero(table.frame["split"] == "train") if is_split else np.arange(len(table))


def _survey_remarks(table: ImageTable) -> Iterator[str]:
    """Yield what the dataset did not use, and warnings about what it is not sure of."""
    for line in table.survey.lines():
        yield f"{line[:1].upper()}{line[1:]}."
    for message, hint in table.survey.doubts:
        yield f"Warning: {message}; {hint}."


def _experiment_name(data: Path) -> str:
    """Return the name of the folder, or folder-file, as far as a run may be called so."""
    path = data.resolve()
    text = path.name if data.is_dir() else f"{path.parent.name}-{path.stem}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return name.strip("._-")[:64] or "experiment"


def _read_headers(table: ImageTable) -> tuple[list[_Header], str]:
    """Return the headers of some images, and a remark on those that cannot be read."""
    rows = np.unique(np.linspace(0, len(table) - 1, _SAMPLE_SIZE).astype(int)).tolist()
    headers = {str(table.frame["path"].iat[row]): _read_header(table, row) for row in rows}
    good = [header for header in headers.values() if header]
    bad = [path for path, header in headers.items() if not header]
    if not good:
        message = f"none of {len(rows)} images can be read; first: {bad[0]}"
        raise _error("bad-images", message, "are these images?", table.source)
    if not bad:
        return good, ""
    remark = f"{len(bad)} of {len(rows)} sampled images cannot be read, such as {bad[0]}."
    return good, f'{remark} See dataset.on_bad_image = "skip".'


def _read_header(table: ImageTable, row: int) -> _Header | None:
    """Return the size of an image, and whether it has no colour; None if it cannot be read."""
    try:
        image = table.read(row)
        if isinstance(image, np.ndarray):
            return _Header(image.shape[0], image.shape[1], is_grey=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the decoder reports problems later
            with Image.open(io.BytesIO(image), formats=FORMATS) as file:
                return _Header(file.height, file.width, file.mode in _GREY_MODES)
    except Exception:  # Pillow raises errors of any type for damaged files
        return None


def _paired_names(table: ImageTable) -> str:
    """Return a warning if names such as 7_left and 7_right suggest groups, else ""."""
    stems = [Path(path).stem for path in table.frame["path"]]
    matches = [match for stem in stems if (match := _PAIRED_NAME.fullmatch(stem))]
    counts = Counter(match[1] for match in matches)
    paired = [match for match in matches if counts[match[1]] > 1]
    starts = {match[1] for match in paired}
    is_few = len(starts) <= max(len(table.classes), len(paired) / 20)
    if len(paired) < len(table) / 2 or is_few:
        return ""  # img_1 to img_500 are not a group, nor are cat_1 and dog_1
    examples = [match[0] for match in paired if match[1] == paired[0][1]][:2]
    return (
        f"Warning: {len(paired)} names begin like another, as {' and '.join(examples)} do. If such "
        "images show one patient, animal or place, they belong in one split: list them in a "
        'CSV file with a column for it, and set dataset.use = "csv" with group = "COLUMN".'
    )


def _error(code: str, message: str, hint: str, file: str = "") -> DataError:
    return DataError(Problem(code, message, hint, file=file))
