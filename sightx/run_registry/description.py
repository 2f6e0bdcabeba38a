"""Everything about one run: what `sightx show-run` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightx.run_registry.diff import Change, RecordedRun, diff_runs
from sightx.run_registry.filters import Compare
from sightx.run_registry.index import read_index
from sightx.run_registry.summary import Values, read_sessions, read_summary
from sightx.run_registry.trash import children_of, disk_usage

_ESTIMATES = ("intervals", "baselines", "without_tta")


@dataclass(frozen=True)
class Description:
    """One run and its place among the others.

    Attributes:
        values: Its settings, metrics and facts.
        counts: The number of samples of each class, by split.
        sessions: Where and when it trained.
        metrics: The final metrics, by split.
        estimates: What result.json says about them: `intervals` (95 %), `baselines` (the number of
            always predicting the largest class), `without_tta`; each by the name of the metric.
        majority: The share of the most frequent class of each split: the accuracy of a model that
            always says it.
        parents: The runs that it comes from, as environment.json lists them.
        children: The ids of runs that come from it.
        changes: The differences from its first parent that is here.
        test_scorings: How often its own test split was scored by it, and by all runs here; the
            second is None if its test rows have no id.
        size: Bytes on disk.
        checkpoint: The name of the checkpoint that the final metrics are from, "" without one.
        checkpoint_epoch: The epoch of that checkpoint, 0 if it is not known.
    """

    values: Values
    counts: Mapping[str, list[int]]
    sessions: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Mapping[str, float]]
    estimates: Mapping[str, Mapping[str, Any]]
    majority: Mapping[str, float]
    parents: tuple[Mapping[str, str], ...]
    children: tuple[str, ...]
    changes: tuple[Change, ...]
    test_scorings: tuple[int, int | None]
    size: int
    checkpoint: str
    checkpoint_epoch: int


def describe_run(directory: Path) -> Description:
    """Return the description of a run; its folder is the folder of the others."""
    run, root = RecordedRun(directory), directory.parent
    summary = read_summary(directory)
    values: Values = summary.values if summary else {}
    parents = tuple(run.environment.get("parents", ()))
    known = [root / parent["run"] for parent in parents if (root / parent["run"]).is_dir()]
    counts = run.data.get("counts", {})
    return Description(
        values=values,
        counts=counts,
        sessions=tuple(read_sessions(directory)),
        metrics={s: run.result[s] for s in ("validation", "test") if run.result.get(s)},
        estimates={key: run.result[key] for key in _ESTIMATES if run.result.get(key)},
        majority={s: max(c) / sum(c) for s, c in counts.items() if sum(c)},
        parents=parents,
        children=tuple(children_of(root, directory.name)),
        changes=tuple(diff_runs([known[0], directory])) if known else (),
        test_scorings=_test_scorings(root, values),
        size=disk_usage(directory),
        checkpoint=run.result.get("checkpoint", ""),
        checkpoint_epoch=run.result.get("epoch", 0),
    )


def _test_scorings(root: Path, values: Values) -> tuple[int, int | None]:
    own, rows = int(values.get("test-scorings", 0)), values.get("data.test")
    if rows is None:
        return own, None
    same = read_index(root, lambda index: index.select(Compare("data.test", "=", rows)))
    return own, sum(int(run.get("test-scorings", 0)) for run in same)
