"""Checks of a dataset's images: those that cannot be used, and copies in two splits."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.data.cache.file_hashes import stat_files
from sightx.data.csv_reader import read_csv
from sightx.data.decode.formats import NOT_SUPPORTED
from sightx.data.near_names import (
    Change,
    FileIndex,
    common_change,
    describe_differences,
    nearest_files,
)
from sightx.errors import DataError, Problem
from sightx.io import atomic
from sightx.io.csv_cells import csv_bytes
from sightx.io.files import LEADS_OUT, shell_path
from sightx.io.toml import dump_value
from sightx.records.hashes import Hashes
from sightx.records.table import ImageTable
from sightx.registry.kinds import Dataset

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]

CONFLICT_SHARE = 0.01
"""The share of samples, above which copies with different labels are an error."""
_KEPT = {"test": 0, "validation": 1, "train": 2, "": 3}
"""Of two copies the one in the first of these splits stays, so that results keep their meaning."""
_LARGE_SHARE = 0.2  # of missing files: more are rather somewhere else than superfluous
_log = logging.getLogger("sightx")
_LONG_PATH = 100  # characters that leave room for the rest of a line


def check_missing_files(table: ImageTable, dataset: Dataset) -> None:
    """Raise DataError if more files are missing than the dataset skips."""
    check_bad_images(table, stat_files(table).errors, dataset, None)


def check_bad_images(
    table: ImageTable,
    bad: Mapping[int, str],
    dataset: Dataset,
    bad_images_csv: Path | None,
    *,
    all_read: bool = True,
) -> None:
    """List bad images in a file; raise DataError if they are more than the dataset skips.

    The list contains what `dataset.exclude` leaves out as well, so that it can take its place. It
    never replaces a file: if there is one, the list gets another name. `bad` maps positions in the
    table to reasons. Without `all_read` more may be found: images to skip are not listed yet.
    """
    import pandas as pd

    if not bad:
        return
    limit, skip = dataset.bad_images_at_most, dataset.on_bad_image == "skip"
    is_skipped = skip and len(bad) / len(table) <= limit
    if is_skipped and not (bad_images_csv and all_read):
        return
    near = _nearest_files(table, bad)
    if bad_images_csv:
        rows = [*excluded_rows(dataset), *_bad_rows(table, bad, near)]
        listed = pd.DataFrame(rows, columns=["path", "reason", "row"])
        bad_images_csv = _write_list(bad_images_csv, listed)
    if is_skipped:
        return
    first, reason = next(iter(bad.items()))
    path = table.frame["path"].iat[first]
    message = f"{len(bad)} of {len(table)} images {_fault(table, bad)}; first: {path} ({reason})"
    message += f"; dataset.bad_images_at_most is {limit:g}" if skip else ""
    hint = "fix them, or let dataset.exclude name a CSV of path,reason"
    if bad_images_csv:
        hint = f"fix them, or {_leave_out('them', bad_images_csv)}"
    hint = _better_hint(table, dataset, bad, near) or hint
    if reason.endswith(NOT_SUPPORTED):
        hint = hint.replace("fix them", "convert them to JPEG or PNG")
    raise DataError(Problem("bad-images", message, hint).at(*table.place(first)))


def _bad_rows(
    table: ImageTable, bad: Mapping[int, str], near: Mapping[str, str]
) -> Iterator[tuple[str, str, int]]:
    """Yield path, reason and line of each bad image; the reason names the nearest file."""
    for index, reason in bad.items():
        path = str(table.frame["path"].iat[index])
        offer = f"; near name: {near[path]}" if path in near else ""
        yield path, f"{reason}{offer}", table.line(index)


def _nearest_files(table: ImageTable, bad: Mapping[int, str]) -> dict[str, str]:
    """Return the nearest file of each missing image that has one."""
    paths = table.frame["path"]
    missing = [str(paths.iat[index]) for index, reason in bad.items() if reason == "missing"]
    return nearest_files(table.root, missing) if table.root else {}


def _leave_out(what: str, listed: Path) -> str:
    """Return how to leave the images of a list out; a part of a path could not be pasted."""
    path = shell_path(listed)
    if len(path) > _LONG_PATH:
        return f"let dataset.exclude name {_short(listed)}"
    return f"leave {what} out: --set dataset.exclude={path}"


def _fault(table: ImageTable, bad: Mapping[int, str]) -> str:
    """Return what is wrong with bad images that all have the same reason, or with others."""
    faults = {"missing": "are missing", LEADS_OUT: f"are links out of {table.root}"}
    reason, *others = set(bad.values())
    fault = "cannot be read" if others else faults.get(reason, "cannot be read")
    lost = _lost_classes(table, bad)
    return f"{fault}, among them all of {', '.join(map(repr, lost[:3]))}" if lost else fault


def _better_hint(
    table: ImageTable, dataset: Dataset, bad: Mapping[int, str], near: Mapping[str, str]
) -> str:
    """Return a better way out than to leave images out; "" if there is none."""
    reason = next(iter(bad.values()))
    if LEADS_OUT in bad.values() and "follow_links" in type(dataset).model_fields:
        return "follow_links = true in [dataset] follows links"
    if table.root is None or reason.endswith(NOT_SUPPORTED):
        return ""
    if len(bad) == len(table) and (images := _folder_of_images(table, dataset)):
        return f'is {table.root} the folder of images? set images = "{images}" in [dataset]'
    # Settings apply to every row.
    change = common_change(near) if len(near) == len(table) else None
    way_out = _settings_for(change, table.root, dataset) if change else ""
    if not way_out and _are_elsewhere(table, bad):
        way_out = _settings_for_subfolders(table, dataset)
    if not near and not way_out and _are_elsewhere(table, bad):
        return f"is {table.root} the folder of all images? no file in it has such a name"
    if not way_out and len(bad) > 1 and near:
        way_out = describe_differences(near)
    offer = f"did you mean {next(iter(near.values()))}?" if near else ""
    return f"{offer} {way_out}".strip()


def _lost_classes(table: ImageTable, bad: Mapping[int, str]) -> list[str]:
    """Return the classes that have bad images only, unless all have."""
    counts = np.array(table.counts())
    lost = np.bincount(table.labels[list(bad)], minlength=len(counts))
    names = [table.classes[label] for label in np.flatnonzero((lost == counts) & (lost > 0))]
    return names if len(bad) < len(table) else []


def _are_elsewhere(table: ImageTable, bad: Mapping[int, str]) -> bool:
    """Return whether missing files are so many, or all of a class, that a setting may be wrong."""
    is_many = len(bad) > _LARGE_SHARE * len(table)
    return set(bad.values()) == {"missing"} and (is_many or bool(_lost_classes(table, bad)))


def _settings_for_subfolders(table: ImageTable, dataset: Any) -> str:
    """Return the settings with which each name is that of one file in a folder below the root."""
    if not {"root", "images", "search_subfolders"} <= type(dataset).model_fields.keys():
        return ""
    if dataset.search_subfolders or dataset.validation_images or dataset.test_images:
        return ""
    index = FileIndex(Path(dataset.root))
    files = [index.find(str(path)) for path in table.frame["path"]]
    if any(len(matches) != 1 for matches in files) or len({file for (file,) in files}) < len(files):
        return ""
    hint = f"search_subfolders = true in [dataset]: the images are below {dataset.root}"
    return f"set {hint}" if dataset.images == "." else f'set images = "." and {hint}'


def _folder_of_images(table: ImageTable, dataset: Dataset) -> str:
    """Return another value of `images` with which all files exist, "" if there is none."""
    if table.root is None or not {"root", "images"} <= type(dataset).model_fields.keys():
        return ""
    root = Path(dataset.root).absolute()  # type: ignore[attr-defined]
    folders = [folder for folder in table.root.absolute().parents if folder.is_relative_to(root)]
    for folder in folders:
        if all((folder / path).is_file() for path in table.frame["path"]):
            return folder.relative_to(root).as_posix()
    return ""


def _settings_for(change: Change, root: Path, dataset: Dataset) -> str:
    """Return the settings of a dataset that make a change of file names, "" if it has none."""
    values = {"strip_prefix": change.strip_prefix, "suffix": change.suffix, "images": ""}
    if any(getattr(dataset, key, "") for key in ("validation_images", "test_images")):
        return ""  # a change of the paths of all files is not that of one folder
    if change.folder and hasattr(dataset, "root"):
        values["images"] = os.path.relpath(root / change.folder, dataset.root)
    values = {key: value for key, value in values.items() if value}
    is_settable = all(getattr(dataset, key, None) in ("", ".") or key == "images" for key in values)
    if not is_settable or not values.keys() <= type(dataset).model_fields.keys():
        return ""
    settings = " and ".join(f"{key} = {dump_value(value)}" for key, value in values.items())
    return f"set {settings} in [dataset]"


def check_copies(
    table: ImageTable,
    hashes: Hashes,
    splits: Mapping[str, Array],
    dataset: Dataset,
    copies_csv: Path,
    *,
    allowed: bool = False,
) -> None:
    """Look for images with the same content in more than one split.

    If there are any, a file lists which copies to leave out, also those in one split: another
    division may separate them. It contains what `dataset.exclude` leaves out as well, so that it
    can take its place. Raises DataError; with `allowed` this is a warning in the log.
    """
    rows, names = _find_copies(hashes, splits)
    if not len(rows):
        return
    paths = table.frame["path"].to_numpy(object)[rows]
    copies_csv = _list_copies(table, hashes, splits, dataset, copies_csv)
    second = next(i for i, name in enumerate(names) if name != names[0])
    count = len(set(hashes.take(rows)))
    noun = "image is" if count == 1 else "images are"
    message = (
        f"{count} {noun} in more than one split; first: {paths[0]} ({names[0]}) "
        f"and {paths[second]} ({names[second]})"
    )
    # A line that is too long loses its end, which must not be that of the path.
    hint = f"{_leave_out('copies', copies_csv)}; "
    hint += 'if it is meant: allow = ["copies-across-splits"]'
    problem = Problem("copies-across-splits", message, hint)
    problem = problem.at(*table.place(int(rows[second])))
    if not allowed:
        raise DataError(problem)
    _log.warning("%s", replace(problem, severity="warning", hint=f"see {_short(copies_csv)}"))


def _list_copies(
    table: ImageTable, hashes: Hashes, splits: Mapping[str, Array], dataset: Dataset, file: Path
) -> Path:
    """Write the copies to leave out, after what the dataset excludes, and return the path."""
    import pandas as pd

    split = np.full(len(table), "", dtype=object)
    for name, positions in splits.items():
        split[positions] = name
    used = np.sort(np.concatenate(list(splits.values())))
    used = used[hashes.raw[used] != b""]
    _, content, counts = np.unique(hashes.raw[used], return_inverse=True, return_counts=True)
    is_copy = counts[content] > 1
    groups = pd.Series(used[is_copy]).groupby(content[is_copy])
    clusters = [members.tolist() for _, members in groups]
    left_out = copies_to_exclude(table, split, clusters)
    paths = table.frame["path"].to_numpy(object)
    rows = [(paths[row], left_out[row], split[row]) for row in sorted(left_out)]
    columns = ["path", "reason", "split"]
    return _write_list(file, pd.DataFrame([*excluded_rows(dataset), *rows], columns=columns))


def copies_to_exclude(
    table: ImageTable, split: Array, clusters: Iterable[Sequence[int]]
) -> dict[int, str]:
    """Return which rows should be left out, with the reason; a cluster is the copies of one image.

    Of its copies one stays: that in the test split, else that in validation. If their labels
    differ, none does.
    """
    paths, labels = table.frame["path"].to_numpy(object), table.labels
    reasons: dict[int, str] = {}
    for members in clusters:
        if len(set(labels[members])) > 1:
            names = " and ".join(table.classes[label] for label in sorted(set(labels[members])))
            reasons |= dict.fromkeys(members, f"copies are labelled {names}")
            continue
        kept, *others = sorted(members, key=lambda row: (_KEPT[str(split[row])], row))
        reasons |= dict.fromkeys(others, f"a copy of {paths[kept]}")
    return reasons


def _find_copies(hashes: Hashes, splits: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return rows whose content is in more than one split, and their splits.

    Copies are next to each other, in the order of the splits and of the table.
    """
    names = np.array(list(splits), dtype=object)
    rows = np.concatenate(list(splits.values()))
    split = np.repeat(np.arange(len(splits)), [len(positions) for positions in splits.values()])
    is_known = hashes.raw[rows] != b""
    rows, split = rows[is_known], split[is_known]
    _, content = np.unique(hashes.raw[rows], return_inverse=True)
    in_split = np.unique(content * len(splits) + split) // len(splits)  # one per content and split
    is_copy = np.bincount(in_split, minlength=1)[content] > 1
    rows, split, content = rows[is_copy], split[is_copy], content[is_copy]
    order = np.lexsort((rows, split, content))
    return rows[order], names[split[order]]


def check_conflicting_copies(
    table: ImageTable, hashes: Hashes, rows: Array, *, allowed: bool = False
) -> None:
    """Look for images with the same content and different labels among some rows of a table.

    Raises DataError if they are more than `CONFLICT_SHARE` of the rows; otherwise, or with
    `allowed`, this is a warning in the log.
    """
    first, second = _find_conflicts(table.labels[rows], hashes.raw[rows])
    if not len(first):
        return
    share = len(np.union1d(first, second)) / len(rows)
    one, other = (int(rows[places[0]]) for places in (first, second))
    paths, names = table.frame["path"], [table.classes[table.labels[row]] for row in (one, other)]
    count = f"{len(first)} {'image is a copy' if len(first) == 1 else 'images are copies'}"
    message = f"{count} with another label than the original; first: {paths.iat[one]} "
    message += f"({names[0]}) and {paths.iat[other]} ({names[1]})"
    hint = "correct the labels: sightx audit SPEC lists them"
    if is_error := share > CONFLICT_SHARE and not allowed:
        hint += ', or allow = ["conflicting-copies"]'
    problem = Problem("conflicting-copies", message, hint).at(*table.place(other))
    if is_error:
        raise DataError(problem)
    _log.warning("%s", replace(problem, severity="warning"))


def _find_conflicts(labels: Array, contents: Array) -> tuple[Array, Array]:
    """Return positions whose content has another label at an earlier position, after those."""
    known = np.flatnonzero(contents != b"")
    _, first, inverse = np.unique(contents[known], return_index=True, return_inverse=True)
    original = known[first[inverse]]
    differs = labels[original] != labels[known]
    return original[differs], known[differs]


def excluded_rows(dataset: Dataset) -> list[tuple[str, str, str]]:
    """Return path and reason of each row of `dataset.exclude`, and no line or split."""
    if dataset.exclude is None:
        return []
    cells = read_csv(dataset.exclude, ["path", "reason"])
    return [(path, reason, "") for path, reason in zip(cells["path"], cells["reason"], strict=True)]


def _write_list(file: Path, frame: pd.DataFrame) -> Path:
    """Write a list as CSV, to a name that no other file has, and return its path."""
    with atomic.disk_errors(file.parent):
        return atomic.write_new(file, csv_bytes(frame))


def _short(file: Path) -> str:
    """Return a path that leaves room in a message: relative, or its last two parts."""
    if file.is_relative_to(Path.cwd()):
        return str(file.relative_to(Path.cwd()))
    return str(Path("...", *file.parts[-2:]))
