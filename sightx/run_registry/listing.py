"""List runs: filtered, sorted, folded over seeds, and with the columns that tell them apart."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sightx.io.files import user_path
from sightx.run_registry.filters import Filter, find_key, join_filters, parse_filter
from sightx.run_registry.index import Index, read_index
from sightx.run_registry.summary import CONTENT, Value, Values, is_setting

if TYPE_CHECKING:
    import pandas as pd

FINISHED = ("finished", "stopped", "imported")
"""Statuses of runs whose metrics are those of the chosen checkpoint."""
MEAN_OF = ("seconds", "epoch")
"""Facts of which a group of runs has a mean, as of metrics."""


@dataclass(frozen=True)
class Query:
    """Which runs to list, and how.

    Attributes:
        conditions: Filters that all must match, such as `model.use=resnet50`.
        where: One more filter.
        sort: A key; metrics are sorted with the best first, other values upwards, and `-KEY` the
            other way round. "" means the newest first.
        fold: Keys over which runs are folded into their mean and deviation, such as `seed`.
        limit: How many to return; None means all.
        rebuild: Build the index from nothing.
    """

    conditions: tuple[str, ...] = ()
    where: str = ""
    sort: str = ""
    fold: tuple[str, ...] = ()
    limit: int | None = None
    rebuild: bool = False


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1) of n runs; None for one run."""

    mean: float
    deviation: float | None
    runs: int


@dataclass(frozen=True)
class Row:
    """A run, or several that differ only in the folded keys.

    `values` are those of the run, or those that all runs of the group have; `spreads` are the
    numbers of a group. A metric of the test split has none if the runs have different test rows.
    """

    values: Values
    ids: tuple[str, ...]
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    def number(self, key: str) -> Value | None:
        """Return the value or the mean of a key."""
        spread = self.spreads.get(key)
        return spread.mean if spread else self.values.get(key)

    def to_json(self, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the values of some columns, by default all."""
        chosen = {k: v for k, v in self.values.items() if columns is None or k in columns}
        spreads = {
            k: v._asdict() for k, v in self.spreads.items() if columns is None or k in columns
        }
        return {**chosen, "runs": list(self.ids), **spreads} if self.spreads else chosen


@dataclass(frozen=True)
class Listing:
    """The rows of a query.

    `matching` is how many there are without the limit, `runs` how many runs the folder has,
    `keys` are the keys that runs have, with the direction of metrics, and `sort` is the key by
    which the rows are sorted, "" for none.
    """

    rows: Sequence[Row]
    matching: int
    runs: int
    keys: Mapping[str, str]
    sort: str


def query_runs(root: Path, query: Query) -> Listing:
    """Return the runs of a folder that match a query.

    Raises SpecError for a key that no run has, or a filter that is not an expression.
    """

    def select(index: Index) -> Listing:
        keys = index.keys()
        names = list(keys)
        where = _where(query, keys, index)
        sort = find_key(query.sort.removeprefix("-"), names, "--sort") if query.sort else ""
        descending = is_descending(sort, keys) != query.sort.startswith("-")
        if not query.fold:
            values = index.select(where, sort=sort, descending=descending, limit=query.limit)
            rows: Sequence[Row] = [Row(row, (str(row["id"]),)) for row in values]
            return Listing(rows, index.count(where), index.count(), keys, sort)
        folded = [find_key(key, names, "--fold") for key in query.fold]
        rows = fold_rows(index.select(where), folded)
        rows = sort_rows(rows, sort, descending=descending) if sort else rows
        return Listing(rows[: query.limit], len(rows), index.count(), keys, sort)

    return read_index(root, select, rebuild=query.rebuild)


def list_runs(
    where: str = "",
    *,
    sort: str = "",
    fold: str | Iterable[str] = (),
    runs: str | Path | None = None,
) -> pd.DataFrame:
    """Return one row per run, with its settings, metrics and facts as columns; the newest first.

    Args:
        where: A filter, such as `model.use = resnet50 and qwk > 0.5`.
        sort: A key; metrics are sorted with the best first, `-KEY` the other way round.
        fold: Keys over which runs are folded, such as `seed`: a number has the mean of the runs in
            its column, and the deviation in another one, `validation/qwk deviation`.
        runs: The folder of runs; None means that of the project.

    Raises:
        SpecError: The filter is wrong; the message has the column.
    """
    import pandas as pd

    from sightx.registry.project import find_project

    root = user_path(runs) if runs is not None else find_project(Path.cwd()).runs
    folded = (fold,) if isinstance(fold, str) else tuple(fold)
    listing = query_runs(root, Query((), where, sort, folded))
    records = []
    for row in listing.rows:
        record: dict[str, Any] = dict(row.values)
        if folded:
            record["runs"] = len(row.ids)
        for key, spread in row.spreads.items():
            record |= {key: spread.mean, f"{key} deviation": spread.deviation}
        records.append(record)
    return pd.DataFrame(records)


def is_descending(key: str, keys: Mapping[str, str]) -> bool:
    """Return whether more of a key comes first: of a metric of which more is better."""
    return keys.get(key, "") == "max"


def _where(query: Query, keys: Mapping[str, str], index: Index) -> Filter | None:
    filters = [parse_filter(text, keys, file="", known=index) for text in query.conditions]
    if query.where:
        filters.append(parse_filter(query.where, keys, known=index))
    return join_filters(filters)


def fold_rows(runs: Iterable[Values], keys: Sequence[str]) -> list[Row]:
    """Fold finished runs that have the same data and differ only in some settings.

    Of several runs of one experiment only the first counts: the others repeat it.
    """
    groups: dict[str, dict[tuple[object, ...], Values]] = {}
    splits = any(key.startswith("split.") for key in keys)
    for values in runs:
        if values.get("status") in FINISHED:
            group = groups.setdefault(_group(values, keys), {})
            contents = (item for item in values.items() if item[0].endswith(CONTENT))
            group.setdefault((values.get("experiment"), values.get("data"), *contents), values)
    return [_fold(list(group.values()), splits=splits) for group in groups.values()]


def _group(values: Values, keys: Sequence[str]) -> str:
    """Return what the runs of a group have in common."""
    settings = sorted(
        (key, value)
        for key, value in values.items()
        if is_setting(key) and key.removesuffix(CONTENT) not in keys
    )
    # Another split of the same data has another id: only then may the data differ.
    data = "" if any(key.startswith("split.") for key in keys) else values.get("data")
    return json.dumps([settings, data])


def _fold(group: Sequence[Values], *, splits: bool) -> Row:
    """Fold one group; `splits` is whether its runs may have different splits."""
    test_rows = {values["data.test"] for values in group if "data.test" in values}
    all_known = all("data.test" in values for values in group)
    same_test = len(test_rows) <= 1 and (all_known or not splits)
    numbers = dict.fromkeys(
        key for values in group for key in values if "/" in key or key in MEAN_OF
    )
    spreads = {}
    for key in numbers:
        found = [float(values[key]) for values in group if key in values]
        if same_test or not key.startswith("test/"):
            spreads[key] = spread_of(found)
    common = {
        key: value
        for key, value in group[0].items()
        if key not in numbers and all(values.get(key) == value for values in group[1:])
    }
    return Row(common, tuple(str(values["id"]) for values in group), spreads)


def spread_of(numbers: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation of at least one number."""
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(statistics.fmean(numbers), deviation, len(numbers))


def sort_rows(rows: Iterable[Row], key: str, *, descending: bool) -> list[Row]:
    """Return rows sorted by a value or mean; those without one come last."""

    def order(row: Row) -> tuple[bool, bool, float, str]:
        value = row.number(key)
        is_text = isinstance(value, str)
        number = 0.0 if value is None or isinstance(value, str) else float(value)
        return value is None, is_text, -number if descending else number, str(value) * is_text

    return sorted(rows, key=order)


def differing_columns(rows: Sequence[Row], sort: str = "") -> list[str]:
    """Return the columns that tell rows apart: facts, the followed metrics, and settings.

    The key `sort`, by which the rows are sorted, is one of the first.

    Metrics are those that the runs follow, on validation and test. Settings stand behind the first
    of them, because a narrow terminal shows only the first columns.
    """
    columns = ["status"] if any("status" in row.values for row in rows) else []
    if len({row.values.get("name") for row in rows}) > 1:
        columns.insert(0, "name")
    monitors = dict.fromkeys(str(row.values.get("training.monitor", "")) for row in rows)
    metrics = dict.fromkeys(
        m for monitor in monitors for m in (monitor, monitor.replace("validation/", "test/"))
    )
    first, *others = [key for key in metrics if _has_values(rows, key)] or [""]
    columns += [key for key in ("epoch", sort, first) if _has_values(rows, key)]
    columns += _differing_settings(rows)
    columns += [key for key in (*others, "seconds", "tags", "error") if _has_values(rows, key)]
    return list(dict.fromkeys(columns))


def _has_values(rows: Sequence[Row], key: str) -> bool:
    return any(row.number(key) not in (None, "") for row in rows)


def _differing_settings(rows: Sequence[Row]) -> list[str]:
    keys = dict.fromkeys(chain.from_iterable(row.values for row in rows))
    settings = filter(is_setting, keys)
    differing = [
        key
        for key in settings
        if len({(type(value), value) for value in (row.values.get(key) for row in rows)}) > 1
    ]
    return [key for key in differing if not _is_part_of(key, differing)]


def _is_part_of(key: str, keys: Sequence[str]) -> bool:
    """Return whether a key only repeats another one.

    `loss.x` repeats the choice of a component, `loss.use`; the hash of a file repeats its name.
    """
    table = key.partition(".")[0]
    is_content = key.endswith(CONTENT) and key.removesuffix(CONTENT) in keys
    return is_content or (key != f"{table}.use" and f"{table}.use" in keys)
