"""What the page is told: lists of runs, curves, and everything about one run, as JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from sightx.io.files import read_json, read_json_lines
from sightx.run_registry.description import describe_run
from sightx.run_registry.index import Index, read_index
from sightx.run_registry.listing import Listing, Query, Row, differing_columns, query_runs

FILES = ("report.html", "spec.toml", "experiment.toml", "environment.json", "data.json",
         "result.json", "metrics.jsonl", "console.log", "error.log")  # fmt: skip
"""Files of a run that the page links to, besides its plots."""
_ALWAYS = ("name", "status", "epoch", "training.epochs", "training.monitor")


class RunsQuery(NamedTuple):
    """Which runs the page asks for: a filter, keys to fold over, a key to sort by."""

    where: str = ""
    fold: str = ""
    sort: str = ""


def state_token(root: Path) -> str:
    """Return a text that changes whenever the runs of a folder change."""
    return read_index(root, Index.token)


def list_runs(root: Path, query: RunsQuery) -> dict[str, Any]:
    """Return the runs that match a query, with the columns that tell them apart.

    Raises SpecError for a wrong filter or key.
    """
    folded = tuple(filter(None, query.fold.split(",")))
    listing = query_runs(root, Query((), query.where, query.sort, folded))
    columns = differing_columns(listing.rows)
    return {"columns": columns, **_listing(listing, [_row(row, columns) for row in listing.rows])}


def all_runs(root: Path) -> dict[str, Any]:
    """Return all runs with all of their values, for a page without a server."""
    listing = query_runs(root, Query())
    return _listing(listing, [{"ids": row.ids, "values": row.values} for row in listing.rows])


def _listing(listing: Listing, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "runs": listing.runs,
        "matching": listing.matching,
        "keys": dict(listing.keys),
        "running": sum(row.values.get("status") == "running" for row in listing.rows),
        "rows": rows,
    }


def _row(row: Row, columns: Iterable[str]) -> dict[str, Any]:
    keys = {*columns, *_ALWAYS}
    values = {key: row.values[key] for key in row.values if key in keys}
    spreads = {key: list(row.spreads[key]) for key in row.spreads if key in keys}
    return {"ids": row.ids, "values": values, "spreads": spreads}


def curves(root: Path, ids: Sequence[str], keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return metrics of runs by epoch: the wanted keys, or all that are not of a single class.

    A run that is gone has no epochs.
    """
    return {id_: _curves(root / id_, keys) for id_ in known_runs(root, ids)}


def _curves(directory: Path, wanted: Sequence[str]) -> dict[str, Any]:
    rows = read_json_lines(directory / "metrics.jsonl")
    names = dict.fromkeys(k for row in rows for k in row if k == "lr" or k.count("/") == 1)
    keys = [key for key in names if not wanted or key in wanted]
    return {
        "available": list(names),
        **{name: [row.get(name, 0) for row in rows] for name in ("epoch", "step", "seconds")},
        "metrics": {key: [row.get(key) for row in rows] for key in keys},
    }


def curves_token(root: Path, ids: Sequence[str]) -> str:
    """Return a text that changes whenever the curves of runs change."""
    parts = []
    for id_ in known_runs(root, ids):
        try:
            status = (root / id_ / "metrics.jsonl").stat()
        except OSError:
            continue
        parts.append((id_, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def known_runs(root: Path, ids: Iterable[str]) -> list[str]:
    """Return those of some ids that are runs of the folder: a browser may send anything."""
    wanted = list(dict.fromkeys(ids))
    known = read_index(root, lambda index: index.known(wanted))
    return [id_ for id_ in wanted if id_ in known]


def run_files(directory: Path) -> list[str]:
    """Return the files of a run that the page may show: names of `FILES`, and plots."""
    plots = (path.relative_to(directory).as_posix() for path in directory.glob("plots/*.png"))
    return [*(name for name in FILES if (directory / name).is_file()), *sorted(plots)]


def outline(directory: Path) -> dict[str, Any]:
    """Return what a page without a server shows of a run, besides its values."""
    environment, result = (
        read_json(directory / f"{name}.json") for name in ("environment", "result")
    )
    return {
        "files": run_files(directory),
        "metrics": {split: result.get(split) or {} for split in ("validation", "test")},
        "parents": environment.get("parents", []),
        "sessions": read_json(directory / "sessions.json").get("sessions", []),
    }


def describe(root: Path, id_: str) -> dict[str, Any] | None:
    """Return everything about a run; None if the folder has no such run."""
    if id_ not in known_runs(root, [id_]):
        return None
    directory = root / id_
    return {**asdict(describe_run(directory)), "files": run_files(directory)}
