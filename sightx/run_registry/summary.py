"""Everything about a run that can be listed, filtered and sorted: one flat table of values.

Only JSON files are read, because TOML takes ten times as long; torch and pandas are not imported.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sightx.io.files import read_json_lines
from sightx.runs import lock

Value = str | int | float | bool
Values = Mapping[str, Value]

MARK = "experiment.toml"
"""The file that every run directory has."""
FACTS = frozenset({
    "commit", "data", "device", "directory", "epoch", "epochs", "error", "experiment", "host", "id",
    "name", "note", "parents", "platform", "processes", "python", "samples", "seconds", "started",
    "status", "tags", "test-scorings", "user",
})  # fmt: skip
"""Keys that are not settings of the spec."""
STATUSES = (
    "finished", "stopped", "imported", "running", "interrupted", "failed", "killed", "unknown"
)  # fmt: skip
"""How a run ended, or where it is."""
CONTENT = "-sha256"
"""Ending of the key of the hash of a file that a setting names, `model.weights-sha256`."""
_FACT_TABLES = ("data", "execution", "numerics", "package")
_ID = re.compile(r"\d{8}-\d{6}-(.+)-[0-9a-f]{6}(-\d+)?")
_LAST_LINE = 65_536  # bytes at the end of metrics.jsonl that hold its last line


@dataclass(frozen=True)
class Summary:
    """What is known of one run.

    Attributes:
        values: The value of each key: settings as `optimizer.lr`, metrics as `validation/qwk`,
            facts as `status`. A key without a value is left out.
        has_ended: Whether the run has a result; the files of another one may change at any time.
        directions: Whether more ("max") or less ("min") of a metric is better.
    """

    values: Values
    has_ended: bool
    directions: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Return the name of the run's directory."""
        return str(self.values["id"])


def is_setting(key: str) -> bool:
    """Return whether a key is a setting that changes results, or the content of a file of one."""
    table = key.partition(".")[0]
    return "/" not in key and table not in FACTS and table not in _FACT_TABLES


def read_summary(directory: Path) -> Summary | None:
    """Return the summary of a run; None if a directory is not a run.

    A file that is damaged or missing only leaves out what it holds; damage is named by `error`.
    """
    if not os.path.isfile(f"{directory}/{MARK}"):  # noqa: PTH113 - once per run
        return None
    damaged: list[str] = []

    def read(name: str) -> dict[str, Any]:
        try:
            return _read_json(f"{directory}/{name}")
        except ValueError:
            damaged.append(name)
            return {}

    environment, data, result = (
        read("environment.json"), read("data.json"), read("result.json")
    )  # fmt: skip
    values: dict[str, Value] = {"id": directory.name, "directory": str(directory)}
    values |= _from_environment(environment, directory.name)
    values |= _from_data(data)
    has_ended = bool(result)
    values |= _from_result(result) if has_ended else _from_progress(directory)
    sessions = read("sessions.json")
    values |= _from_sessions(sessions if has_ended else _timed(directory, sessions), result)
    values |= _from_about(read("about.json"))
    if "data.test" in values:
        values["test-scorings"] = _count_lines(directory / "test-scorings.jsonl")
    if "result.json" in damaged:
        values["status"] = "unknown"
    if damaged:
        values["error"] = f"damaged: {', '.join(damaged)}"
    if values["status"] == "finished" and "training.epochs" in values:
        values["epoch"] = values["training.epochs"]
    elif "epoch" not in values:
        values |= _last_epoch(directory, metrics=not result.get("validation"))
    return Summary(values, has_ended, _directions(result))


def flatten_settings(tables: Mapping[str, Any], key: str = "") -> dict[str, Value]:
    """Return the plain values in tables, with dotted keys.

    An array of tables gives the names of its components, and their settings below their names:
    `augment` and `augment.flip.horizontal`. Other arrays become JSON text; nulls are left out.
    `key` is put before every key.
    """
    flat: dict[str, Value] = {}
    _flatten(tables, f"{key}." if key else "", flat)
    return flat


def _flatten(tables: Mapping[str, Any], prefix: str, flat: dict[str, Value]) -> None:
    """Add the plain values in tables; this runs for every value of every run."""
    for name, item in tables.items():
        if isinstance(item, dict):
            _flatten(item, f"{prefix}{name}.", flat)
        elif isinstance(item, list):
            _flatten_list(item, f"{prefix}{name}", flat)
        elif item is not None:
            flat[f"{prefix}{name}"] = item


def _flatten_list(items: list[Any], key: str, flat: dict[str, Value]) -> None:
    if not any(isinstance(item, dict) for item in items):
        flat[key] = json.dumps(items) if items else "[]"
        return
    names = _unique(str(item.get("use", item.get("name", ""))) for item in items)
    flat[key] = ", ".join(names)
    for name, item in zip(names, items, strict=True):
        rest = {k: v for k, v in item.items() if k not in {"use", "name"}}
        _flatten(rest, f"{key}.{name}.", flat)


def _unique(names: Iterator[str]) -> list[str]:
    """Return names in which repeated ones are numbered: flip, flip-2."""
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in unique:
            number += 1
            candidate = f"{name}-{number}"
        unique.append(candidate)
    return unique


def _read_json(path: str) -> dict[str, Any]:
    """Return the object in a JSON file, {} without the file. Raises ValueError if it is damaged."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - once per file of every run
            value = json.loads(file.read())
    except OSError:
        return {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _from_environment(environment: Mapping[str, Any], id_: str) -> Iterator[tuple[str, Value]]:
    name = _ID.fullmatch(id_)
    yield "name", str(environment.get("name") or (name[1] if name else id_))
    yield from flatten_settings(environment.get("experiment", {})).items()
    yield from ((key + CONTENT, text) for key, text in environment.get("contents", {}).items())
    for table, key in (
        ("packages", "package"),
        ("numerics", "numerics"),
        ("execution", "execution"),
    ):
        yield from flatten_settings(environment.get(table, {}), key).items()
    for key in ("host", "user", "python", "platform", "commit", "processes"):
        if environment.get(key):
            yield key, environment[key]
    yield "experiment", str(environment.get("id", ""))
    device = environment.get("device", {})
    yield "device", " ".join(str(device[key]) for key in ("name", "model") if device.get(key))
    if parents := environment.get("parents"):
        yield "parents", " ".join(f"{parent['why']}:{parent['run']}" for parent in parents)
    with suppress(KeyError, ValueError):
        started = datetime.fromisoformat(environment["started"]).astimezone(UTC)
        yield "started", started.strftime("%Y-%m-%dT%H:%M:%SZ")


def _from_data(data: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    if data:
        yield "data", data.get("id", "")
        yield "samples", data.get("samples", 0)
        yield from flatten_settings(data.get("splits", {}), "data").items()


def _from_result(result: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    yield "status", str(result.get("status", "unknown"))
    for split in ("validation", "test"):
        yield from flatten_settings(result.get(split, {})).items()
    yield from flatten_settings({key: result.get(key) for key in ("epochs", "error")}).items()


def _from_progress(directory: Path) -> dict[str, Value]:
    """Return what a run without a result has reached."""
    status = "running" if lock.is_locked(directory) else "killed"
    return {"status": status, **_last_epoch(directory, metrics=True)}


def _last_epoch(directory: Path, *, metrics: bool) -> dict[str, Value]:
    """Return the number of the last complete epoch, and perhaps its metrics."""
    try:
        with (directory / "metrics.jsonl").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _LAST_LINE, 0))
            lines = file.read().rpartition(b"\n")[0].splitlines()
        row = json.loads(lines[-1])
        values = {k: v for k, v in row.items() if metrics and "/" in k}
        return {"epoch": row["epoch"], **flatten_settings(values)}
    except (OSError, LookupError, TypeError, ValueError):
        return {}


def read_sessions(directory: Path) -> list[dict[str, Any]]:
    """Return the sessions of a run; one that has not ended has the seconds of its epochs."""
    try:
        sessions = _read_json(f"{directory}/sessions.json")
    except ValueError:
        return []
    return list(_timed(directory, sessions).get("sessions", ()))


def _timed(directory: Path, sessions: Mapping[str, Any]) -> dict[str, Any]:
    """Return sessions with the seconds of the last one, if nothing has ended it."""
    *before, last = sessions.get("sessions") or [{}]
    if not last or last.get("ended"):
        return dict(sessions)
    first = 0
    with suppress(ValueError, LookupError, TypeError):
        first = int(_read_json(f"{directory}/environment.json")["resumes"][-1]["epoch"])
    rows = read_json_lines(directory / "metrics.jsonl")
    seconds = sum(row.get("seconds", 0) for row in rows if row.get("epoch", 0) > first)
    return {"sessions": [*before, {**last, "seconds": seconds}]}


def _from_sessions(
    sessions: Mapping[str, Any], result: Mapping[str, Any]
) -> Iterator[tuple[str, Value]]:
    """Yield the seconds of all sessions; a run that recorded none has those of its last one."""
    seconds = [session.get("seconds", 0) for session in sessions.get("sessions", ())]
    if total := sum(seconds) or result.get("seconds"):
        yield "seconds", total


def _count_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def _from_about(about: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    yield "tags", " ".join(map(str, about.get("tags", ())))
    if about.get("note"):
        yield "note", str(about["note"])


def _directions(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the direction of each metric of a result; those of the test split are the same."""
    directions = dict(result.get("directions", {}))
    for key, direction in list(directions.items()):
        split, _, name = key.partition("/")
        if split == "validation":
            directions[f"test/{name}"] = direction
    return directions
