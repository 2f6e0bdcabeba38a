"""Write `docs/results.md`, the table of what the shipped specs have reached, from run directories.

    python benchmarks/results.py RUN ...      # keep these runs, and write the page
    python benchmarks/results.py              # write the page again

RUN is the directory of a finished run of a spec in `specs/`. What the page shows of it is kept in
`docs/results.json`, because run directories are not in the repository. Runs that differ in their
seed only are one row. `tests/test_results.py` compares page, records and the headers of the specs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from scipy.stats import t as student

import sightx

ROOT = Path(__file__).parents[1]
RECORDS, PAGE = ROOT / "docs" / "results.json", ROOT / "docs" / "results.md"
PERCENT = {"accuracy", "balanced-accuracy"}
# Overrides that the page leaves out; another split is like another seed.
NOT_RESULTS = ("seed=", "split=", "execution.", "dataset.root=", "dataset.images=")
PACKAGES = ("torch", "torchvision", "sightx")
INTRODUCTION = """\
# Results

What the shipped specs have reached on the test split, which each run scores once. The command
`python benchmarks/results.py RUN ...` writes this page from run directories; no number on it is
typed. A result is followed by its 95 % interval: over seeds, from Student's t distribution, if
there are several runs, otherwise over the images, or patients, of the test split
([judging a run](evaluation.md)). The baseline always predicts the largest class of the train split.
The time is that of a run from start to end, a mean over seeds; `*` marks runs that had to share the
cores with other processes, which makes them several times longer.

| spec | data | train, validation, test | result | baseline | time | machine | versions | runs |
|---|---|---|---|---|---|---|---|---|
"""

Record = dict[str, Any]


def read_record(directory: Path) -> Record:
    """Return what the page shows of a run. Raise SystemExit if it is not a finished run."""
    run = sightx.open_run(directory)
    environment, data, result = run.environment, run.data, run.result
    if run.status not in ("finished", "stopped") or "test" not in result:
        raise SystemExit(f"{directory}: not a finished run with a test split")
    names = [name for name in figures(run) if name in result["test"]]
    spec = (run.directory / "spec.toml").read_text(encoding="utf-8")
    sessions = run.read_json("sessions.json")["sessions"]
    return {
        "spec": environment["name"].replace("-", "_") + ".toml",
        "settings": settings_hash(spec),
        "overrides": [
            value for value in environment["overrides"] if not value.startswith(NOT_RESULTS)
        ],
        "seed": environment["experiment"]["seed"],
        "run": run.id,
        "source": data["source"],
        "data": data["id"],
        "counts": {split: sum(counts) for split, counts in data["counts"].items()},
        "figures": {
            name.removeprefix("test/"): {
                "value": result["test"][name],
                "interval": result["intervals"][name],
                "baseline": result["baselines"][name],
            }
            for name in names
        },
        "seconds": sum(session["seconds"] for session in sessions),
        "shared": environment["openmp"]["wait_policy"] == "passive",
        "machine": {**environment["machine"], "device": environment["device"]},
        "python": environment["python"],
        "packages": {name: environment["packages"][name] for name in PACKAGES},
        "commit": environment["commit"],
    }


def figures(run: sightx.Run) -> list[str]:
    """Return the names of the shown metrics: accuracy, and the monitored one."""
    monitor = run.tables["training"]["monitor"].removeprefix("validation/")
    return [f"test/{name}" for name in dict.fromkeys(["accuracy", monitor]) if name != "loss"]


def settings_hash(spec: str) -> str:
    """Return a hash of the values in a spec, without its comments and layout."""
    return hashlib.sha256(json.dumps(tomllib.loads(spec), sort_keys=True).encode()).hexdigest()


def group_key(record: Record) -> tuple[str, ...]:
    """Return what the runs of one row have in common."""
    shared = ("spec", "settings", "overrides", "data", "counts", "packages", "machine")
    return tuple(json.dumps(record[key], sort_keys=True) for key in shared)


def rows(records: Iterable[Record]) -> list[list[Record]]:
    """Return the records of each row, by spec, overrides and seed."""
    ordered = sorted(records, key=lambda record: (group_key(record), record["seed"]))
    return [list(group) for _, group in groupby(ordered, key=group_key)]


def figure(records: Sequence[Record], name: str) -> str:
    """Return the mean of a metric and its interval, such as `91.2 % [90.6, 91.7]`."""
    values = [record["figures"][name]["value"] for record in records]
    low, high = records[0]["figures"][name]["interval"]
    if len(values) > 1:
        error = statistics.stdev(values) / math.sqrt(len(values))
        margin = student.ppf(0.975, len(values) - 1) * error
        low, high = statistics.mean(values) - margin, statistics.mean(values) + margin
    factor, digits, unit = (100, 1, " %") if name in PERCENT else (1, 2, "")
    # Rounded twice: sums over classes that are equal but for their last bit shall look equal.
    mean, low, high = (round(factor * x, 9) for x in (statistics.mean(values), low, high))
    return f"{mean:.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}]"


def baseline(record: Record, name: str) -> str:
    """Return the metric of always predicting the largest class."""
    value = record["figures"][name]["baseline"]
    return f"{100 * value:.1f} %" if name in PERCENT else f"{value:.2f}"


def render_row(records: Sequence[Record]) -> str:
    """Return one row of the table."""
    first = records[0]
    shown = list(first["figures"])
    over = f"{len(records)} seeds" if len(records) > 1 else "one seed"
    minutes = statistics.mean(record["seconds"] for record in records) / 60
    machine = first["machine"]
    device = "" if machine["device"]["name"] == "cpu" else f", {machine['device']['model']}"
    cells = [
        " ".join([f"`{first['spec']}`", *(f"`--set {text}`" for text in first["overrides"])]),
        f"{first['source']} `{first['data'][:8]}`",
        ", ".join(f"{first['counts'][split]:,}" for split in ("train", "validation", "test")),
        "<br>".join(f"{name} {figure(records, name)}" for name in shown) + f"<br>{over}",
        "<br>".join(baseline(first, name) for name in shown),
        f"{minutes:.1f} min" + "*" * any(record["shared"] for record in records),
        f"{machine['processor']}, {machine['cores']} cores{device}",
        f"torch {first['packages']['torch']}, Python {first['python']}",
        "<br>".join(f"`{record['run']}`" for record in records),
    ]
    return f"| {' | '.join(cells)} |"


def render(records: Iterable[Record]) -> str:
    """Return the page."""
    return INTRODUCTION + "".join(f"{render_row(row)}\n" for row in rows(records))


def merge(records: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Return the records with new ones; those replace older runs of their spec on the same data."""

    def purpose(record: Record) -> tuple[str, ...]:
        return tuple(json.dumps(record[key]) for key in ("spec", "overrides", "source", "seed"))

    latest: Mapping[tuple[str, ...], Record] = {
        purpose(record): record for record in [*records, *new]
    }
    return sorted(latest.values(), key=purpose)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    arguments = parser.parse_args()
    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else []
    records = merge(records, [read_record(directory) for directory in arguments.runs])
    RECORDS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(records), encoding="utf-8")


if __name__ == "__main__":
    main()
