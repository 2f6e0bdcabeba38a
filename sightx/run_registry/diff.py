"""What differs between runs, ordered by its likely effect on their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from sightx.errors import counted
from sightx.io.files import file_sha256, read_json, read_json_lines
from sightx.records import origins
from sightx.run_registry.summary import flatten_settings
from sightx.runs import verdicts

Effect = Literal["changes results", "last digits", "harmless", ""]
_PACKAGES, _HARDWARE = "packages", ("device", "host")
_MISSING = None


@dataclass(frozen=True)
class Change:
    """Something that is not the same in all runs.

    Attributes:
        topic: data, split, seed, code, spec, files, numerics, packages, hardware, names or result.
        key: What differs.
        values: Its value in each run; None if a run lacks it.
        effect: What the difference does to results; "" for a result itself, and for what an
            imported run has not recorded.
    """

    topic: str
    key: str
    values: tuple[Any, ...]
    effect: Effect


class RecordedRun:
    """The files of a run that are compared; what is missing or damaged counts as empty."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Return environment.json."""
        return read_json(self.directory / "environment.json")

    @cached_property
    def data(self) -> dict[str, Any]:
        """Return data.json."""
        return read_json(self.directory / "data.json")

    @cached_property
    def result(self) -> dict[str, Any]:
        """Return result.json."""
        return read_json(self.directory / "result.json")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return the settings of the experiment id, with components by name."""
        return flatten_settings(self.environment.get("experiment", {}))

    @cached_property
    def splits(self) -> dict[str, str]:
        """Return the id of each split, or the hash of split.csv for the first layout."""
        if splits := self.data.get("splits"):
            return dict(splits)
        file = self.directory / "split.csv"
        return {"split.csv": file_sha256(file)} if file.is_file() else {}

    @cached_property
    def code(self) -> dict[str, str]:
        """Return what tells the code of each component from another version of it."""
        return {
            f"{origin['kind']} {origin['name']}": " ".join(
                f"{key} {str(origin[key])[:12]}" for key in origins.compared_keys(origin)
            )
            for origin in self.environment.get("components", ())
        }

    @cached_property
    def files(self) -> dict[str, str]:
        """Return the start of the hash of each file that the spec names."""
        folder = self.directory / "inputs"
        copies = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        large = self.environment.get("large_files", {})
        return {**large, **{name: file_sha256(path) for name, path in copies.items()}}

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """Return metrics.jsonl."""
        return read_json_lines(self.directory / "metrics.jsonl")


def diff_runs(directories: Sequence[Path]) -> list[Change]:
    """Return what differs between two or more runs, the likeliest cause of other results first."""
    runs = [RecordedRun(directory) for directory in directories]
    changes = [*_data(runs), *_experiment(runs), *_environment(runs)]
    return [*_fold_unrecorded(runs, changes), *_results(runs)]


def _fold_unrecorded(runs: Sequence[RecordedRun], changes: Sequence[Change]) -> Iterator[Change]:
    """Yield changes; those that are only missing in an imported run are one for each topic."""
    imported = [at for at, run in enumerate(runs) if origins.is_imported(run.environment)]
    states = tuple("not recorded" if at in imported else "recorded" for at in range(len(runs)))
    for topic, group in groupby(changes, lambda change: change.topic):
        unrecorded = 0
        for change in group:
            if any(change.values[position] is _MISSING for position in imported):
                unrecorded += 1
            else:
                yield change
        if unrecorded:
            yield Change(topic, counted(unrecorded, "more value"), states, "")


def _data(runs: Sequence[RecordedRun]) -> Iterator[Change]:
    facts = [{"id": run.data.get("id"), "classes": run.data.get("classes")} for run in runs]
    yield from _changes("data", "changes results", facts)
    yield from _changes("split", "changes results", [run.splits for run in runs])


def _experiment(runs: Sequence[RecordedRun]) -> Iterator[Change]:
    settings = [run.settings for run in runs]
    changes = list(_changes("spec", "changes results", settings))
    yield from (replace(change, topic="seed") for change in changes if change.key == "seed")
    code = _changes("code", "changes results", [run.code for run in runs])
    # A component that only some runs have is a difference of the spec.
    yield from (change for change in code if _MISSING not in change.values)
    yield from (change for change in changes if change.key != "seed")
    yield from _changes("files", "changes results", [run.files for run in runs])


def _environment(runs: Sequence[RecordedRun]) -> Iterator[Change]:
    compared = [key for key in verdicts.ENVIRONMENT if "." not in key]
    tables = [
        {
            **{key: run.environment.get(key) for key in (*compared, "host", "user")},
            "execution": run.environment.get("execution"),
        }
        for run in runs
    ]
    changes = [_environment_change(change) for change in _changes("", "", tables)]
    for topic in ("numerics", "packages", "hardware", "names"):
        yield from (change for change in changes if change.topic == topic)


def _environment_change(change: Change) -> Change:
    """Return a change of the environment with its topic and effect."""
    table, key = change.key.partition(".")[0], change.key
    if table in verdicts.ENVIRONMENT:
        verdict = verdicts.environment_verdict(key)
    else:
        verdict = verdicts.settings_verdict(key)
    topic = "numerics"
    if table == _PACKAGES:
        topic = "packages"
    elif table in _HARDWARE:
        topic = "hardware"
    elif verdict == "harmless":
        topic = "names"
    return replace(change, topic=topic, effect=_EFFECTS[verdict])


_EFFECTS: Mapping[str, Effect] = {"changes results": "last digits", "harmless": "harmless"}


def _results(runs: Sequence[RecordedRun]) -> Iterator[Change]:
    """Yield the status, the followed metrics, and the first epoch that differs."""
    keys = dict.fromkeys(
        key
        for run in runs
        for monitor in [str(run.settings.get("training.monitor", ""))]
        for key in (monitor, monitor.replace("validation/", "test/"))
    )
    tables = [
        {
            "status": run.result.get("status"),
            "epochs": len(run.epochs),
            **{key: run.result.get(key.partition("/")[0], {}).get(key) for key in keys},
        }
        for run in runs
    ]
    yield from _changes("result", "", tables)
    first = _first_different_epoch(runs)
    if first:
        losses = tuple(run.epochs[first - 1].get("train/loss") for run in runs)
        yield Change("result", f"train/loss of epoch {first}, the first that differs", losses, "")


def _first_different_epoch(runs: Sequence[RecordedRun]) -> int:
    for number, rows in enumerate(zip(*(run.epochs for run in runs), strict=False), start=1):
        losses = {row.get("train/loss") for row in rows}
        if len(losses) > 1 and None not in losses:
            return number
    return 0


def _changes(topic: str, effect: Effect, tables: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    flat = [flatten_settings(table) for table in tables]
    for key in dict.fromkeys(key for table in flat for key in table):
        values = tuple(table.get(key, _MISSING) for table in flat)
        if any(value != values[0] for value in values[1:]):
            yield Change(topic, key, values, effect)
