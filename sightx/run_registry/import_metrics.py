"""Results from elsewhere as a run: metrics per epoch in a CSV file, and a TOML file about them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sightx.data.csv_reader import read_csv
from sightx.errors import DataError, Problem, SpecError
from sightx.io import atomic, toml
from sightx.io.files import read_json
from sightx.io.system import user_name, utc_time
from sightx.runs import names, sums

_KEYS = {"name", "started", "epoch", "experiment", "directions", "validation", "test", "about"}


def import_metrics(file: Path, about: Path, root: Path) -> tuple[Path, bool]:
    """Write a run of status `imported`; return its directory, and whether it is new.

    Args:
        file: CSV with a column `epoch`; other columns are metrics, such as `validation/qwk`.
        about: TOML with `name`; optionally `started`, `epoch` (whose metrics count, the last by
            default), and the tables `[experiment]` (settings, as a spec has them), `[directions]`
            (`"validation/qwk" = "max"`), `[validation]` and `[test]` (final metrics), `[about]`.
        root: The folder of runs.

    Raises:
        SpecError: The TOML file is wrong.
        DataError: The CSV file is wrong.
    """
    tables, rows = _read_about(about), _read_rows(file)
    digest = hashlib.sha256(file.read_bytes() + b"\0" + about.read_bytes()).hexdigest()
    for directory in names.run_directories(root, f"-{digest[:6]}"):
        if read_json(directory / "environment.json").get("id") == digest:
            return directory, False
    started = tables.get("started", date.today())
    moment = (
        started if isinstance(started, datetime) else datetime.combine(started, datetime.min.time())
    )
    name = f"{moment.strftime('%Y%m%d-%H%M%S')}-{tables['name']}-{digest[:6]}"
    root.mkdir(parents=True, exist_ok=True)
    with atomic.disk_errors(root), atomic.atomic_directory(root / name) as directory:
        _write(directory, tables, rows, digest, utc_time(moment.timestamp()), file)
    return root / name, True


def _read_about(path: Path) -> dict[str, Any]:
    tables: dict[str, Any] = toml.read(path).data
    for key in tables:
        if key not in _KEYS:
            hint = f"known: {', '.join(sorted(_KEYS))}"
            raise SpecError(Problem("unknown-key", "is not known", hint, key, file=str(path)))
    if not isinstance(tables.get("name"), str) or "/" in tables["name"]:
        hint = 'such as name = "paper-baseline"'
        raise SpecError(
            Problem("missing-key", "the run needs a name", hint, "name", file=str(path))
        )
    started = tables.get("started")
    if started is not None and not isinstance(started, date):
        hint = "such as started = 2026-01-31"
        raise SpecError(Problem("wrong-type", "expected a date", hint, "started", file=str(path)))
    return tables


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the CSV, with an integer epoch and finite floats. Raises DataError."""
    cells = read_csv(path, ["epoch"])
    for line in (*cells.attrs["empty"], *cells.attrs["comments"]):
        raise DataError(Problem("not-a-number", "the row has no epoch").at(str(path), line))
    rows: list[dict[str, Any]] = []
    for line, row in zip(cells.index, cells.to_dict("records"), strict=True):
        metrics = {
            str(key): _number(path, line, str(key), cell)
            for key, cell in row.items()
            if key != "epoch" and cell
        }
        epoch = _number(path, line, "epoch", row["epoch"])
        if epoch is None or epoch != int(epoch):
            raise _not_a_number(path, line, "epoch", row["epoch"], "an integer")
        rows.append({"epoch": int(epoch), **metrics})
    if not rows:
        raise DataError(Problem("empty-file", "there are no rows", file=str(path)))
    return rows


def _number(path: Path, line: int, column: str, cell: object) -> float | None:
    """Return the number in a cell, None for one that is not finite. Raises DataError."""
    try:
        number = float(str(cell))
    except ValueError as error:
        raise _not_a_number(path, line, column, cell, "a number") from error
    return number if math.isfinite(number) else None


def _not_a_number(path: Path, line: int, column: str, cell: object, wanted: str) -> DataError:
    message = f"{column}: expected {wanted}, got {str(cell)[:40]!r}"
    hint = "an empty cell means that there is no value" if column != "epoch" else ""
    return DataError(Problem("not-a-number", message, hint).at(str(path), line))


def _write(
    directory: Path,
    tables: Mapping[str, Any],
    rows: list[dict[str, Any]],
    digest: str,
    started: str,
    file: Path,
) -> None:
    wanted = tables.get("epoch", rows[-1]["epoch"])
    chosen = next((row for row in rows if row["epoch"] == wanted), rows[-1])
    final = {
        split: {
            **{key: value for key, value in chosen.items() if key.startswith(f"{split}/")},
            **{f"{split}/{key}": value for key, value in tables.get(split, {}).items()},
        }
        for split in ("validation", "test")
    }
    environment = {
        "id": digest, "name": tables["name"], "started": started, "user": user_name(),
        "parents": [], "experiment": tables.get("experiment", {}), "imported": file.name,
    }  # fmt: skip
    result = {
        "status": "imported", "epoch": chosen["epoch"], **final,
        "directions": tables.get("directions", {}),
    }  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    experiment = {
        "name": tables["name"],
        **tables.get("experiment", {}),
        "about": tables.get("about", {}),
    }
    files = {
        "experiment.toml": toml.dump(experiment),
        "environment.json": json.dumps(environment, indent=1) + "\n",
        "metrics.jsonl": lines,
        "result.json": json.dumps(result, indent=1) + "\n",
    }
    for name, text in files.items():
        atomic.write(directory / name, text.encode())
    sums.write_sums(directory)
