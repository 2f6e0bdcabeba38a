"""Folders of runs without training: the files of a recorded run, with other values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightx.io import atomic
from sightx.run_registry.summary import Summary, read_summary

RECORDED = next((Path(__file__).parents[1] / "run_registry" / "fixtures").glob("2*"))
"""A run of the layout before sessions, split ids and directions were recorded."""


def read_summaries(root: Path) -> list[Summary]:
    """Return the summaries of all runs in a folder, sorted by id, without an index."""
    paths = [path for path in root.glob("[!.]*") if path.is_dir()]
    summaries = [summary for path in paths if (summary := read_summary(path))]
    return sorted(summaries, key=lambda summary: summary.id)


def read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file as a run does."""
    atomic.replace(path, json.dumps(value).encode())


def write_run(
    root: Path,
    name: str,
    settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    *,
    status: str = "finished",
    tags: tuple[str, ...] = (),
    whole: bool = False,
) -> Path:
    """Write a run whose experiment has other settings, by dotted key, and other metrics.

    `status` "" leaves the result out. Only `whole` runs have checkpoints and predictions.
    """
    run = root / f"20260131-{name}"
    if whole:
        shutil.copytree(RECORDED, run)
    else:
        run.mkdir(parents=True)
        for file in ("experiment.toml", "environment.json", "data.json", "metrics.jsonl"):
            shutil.copy(RECORDED / file, run)
    environment, result = (read_json(RECORDED / f"{n}.json") for n in ("environment", "result"))
    environment |= {"name": "little", "id": f"experiment of {name}"}
    for key, value in (settings or {}).items():
        *tables, last = key.split(".")
        table = environment["experiment"]
        for part in tables:
            table = table[part]
        table[last] = value
    replace_json(run / "environment.json", environment)
    for key, number in (metrics or {}).items():
        result[key.partition("/")[0]][key] = number
    result |= {
        "status": status,
        "directions": {"validation/accuracy": "max", "validation/loss": "min"},
    }
    if status:
        replace_json(run / "result.json", result)
    elif (run / "result.json").exists():
        (run / "result.json").unlink()
    if tags:
        replace_json(run / "about.json", {"tags": list(tags), "note": ""})
    return run
