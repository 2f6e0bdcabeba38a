"""Compare runs on the same samples: differences of metrics with paired intervals over groups."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from sightx.errors import Problem, RunError
from sightx.evaluation.intervals import DRAWS, Resampled, difference_limits, draw_numbers
from sightx.io.files import shell_path
from sightx.records.predictions import Predictions
from sightx.registry import metric_results
from sightx.registry.kinds import Metric
from sightx.run_registry.listing import Spread, spread_of
from sightx.runs.directory import Run, finite_or_null
from sightx.seeds import generator

_LEVEL, _POWER = 0.95, 0.8
_MAX_NAMES = 3
Array = np.ndarray[Any, Any]


class Difference(NamedTuple):
    """A metric of a candidate minus that of the first one, and its 95 % interval.

    `is_better` is whether the candidate is better, None if the interval contains 0: no difference
    is detectable. Without an interval, `reason` says why, the limits are NaN and `is_better` is
    None.
    """

    value: float
    low: float
    high: float
    is_better: bool | None
    reason: str = ""

    @property
    def detectable(self) -> float:
        """Return the difference that 4 of 5 comparisons like this one would detect.

        It is 2.8 standard errors: the sum of the normal quantiles of 0.975 and 0.8.
        """
        quantile = NormalDist().inv_cdf
        error = (self.high - self.low) / (2 * quantile((1 + _LEVEL) / 2))
        return error * (quantile((1 + _LEVEL) / 2) + quantile(_POWER))


@dataclass(frozen=True)
class Candidate:
    """One run, or several that differ only in the seed.

    `metrics` are mean and deviation over its runs; `differences` are those from the first
    candidate, {} for the first.
    """

    name: str
    runs: tuple[str, ...]
    metrics: Mapping[str, Spread]
    differences: Mapping[str, Difference]

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as JSON; numbers that are not finite are null."""
        metrics = {key: spread._asdict() for key, spread in self.metrics.items()}
        differences = {key: value._asdict() for key, value in self.differences.items()}
        plain: dict[str, Any] = finite_or_null(
            {"name": self.name, "runs": self.runs, "metrics": metrics, "differences": differences}
        )
        return plain


@dataclass(frozen=True)
class Comparison:
    """Candidates that were scored on the same samples.

    `repeats` maps each run that does not count, because it repeats another one, to that run.
    `samples` and `groups` are 0 if the metrics are those that the runs recorded.
    """

    split: str
    samples: int
    groups: int
    candidates: tuple[Candidate, ...]
    repeats: Mapping[str, str]


@dataclass(frozen=True)
class _Scored:
    """The numbers of a candidate's runs, and those of the same draws of groups."""

    name: str
    runs: tuple[str, ...]
    values: Mapping[str, list[float]]
    drawn: Mapping[str, list[Array]]


def compare_runs(
    runs: Sequence[Run], metrics: Sequence[Metric], split: str = "test", *, draws: int = DRAWS
) -> Comparison:
    """Compare two or more runs on the samples of a split, the first one with each other.

    Runs that differ only in the seed are one candidate. Every run gets the same draws of groups, so
    the interval of a difference is that of pairs. For a candidate of several seeds, the interval
    also contains the error of the mean over them, s / sqrt(n), drawn from Student's t with n - 1
    degrees of freedom (Student, 1908). One seed says nothing about others: then the interval is
    about these two sets of weights, not about the two settings.

    Raises RunError if the runs were not scored on the same samples and labels.
    """
    tables = aligned_predictions(runs, split)
    families = _families(runs)
    scored = _score_candidates(families, runs, tables, metrics, draws)
    directions = {
        name: direction
        for metric in metrics
        for name, direction in metric_results.metric_directions(metric, tables[0].classes).items()
    }
    candidates = tuple(
        Candidate(
            one.name,
            one.runs,
            {key: spread_of(values) for key, values in one.values.items()},
            _differences(one, scored[0], directions) if one is not scored[0] else {},
        )
        for one in scored
    )
    groups = int(tables[0].group_positions.max()) + 1
    repeats = {
        runs[again].id: runs[first].id
        for seeds in families
        for first, *repeated in seeds
        for again in repeated
    }
    return Comparison(split, len(tables[0]), groups, candidates, repeats)


def compare_recorded(runs: Sequence[Run], split: str = "test") -> Comparison:
    """Return the metrics that runs have recorded: an imported one has no predictions to draw from.

    Every run is a candidate, without differences: nothing says that the samples are the same.
    """
    candidates = []
    for run in runs:
        values = {
            key.partition("/")[2]: spread_of([float(value)])
            for key, value in run.result.get(split, {}).items()
            if value is not None
        }
        candidates.append(Candidate(run.id, (run.id,), values, {}))
    return Comparison(split, 0, 0, tuple(candidates), {})


def _families(runs: Sequence[Run]) -> list[list[list[int]]]:
    """Return the positions of the runs: by candidate, then by seed; the first of a seed counts."""
    families: dict[str, dict[str, list[int]]] = {}
    for position, run in enumerate(runs):
        seeds = families.setdefault(_family(run), {})
        seeds.setdefault(run.environment.get("id", run.id), []).append(position)
    return [list(seeds.values()) for seeds in families.values()]


def _score_candidates(
    families: Sequence[Sequence[Sequence[int]]],
    runs: Sequence[Run],
    tables: Sequence[Predictions],
    metrics: Sequence[Metric],
    draws: int,
) -> list[_Scored]:
    """Return the numbers of each candidate, in the order of its first run."""
    numbers = draw_numbers([Resampled(m, table) for table in tables for m in metrics], draws)
    count = len(metrics)
    drawn = [numbers[start : start + count] for start in range(0, len(numbers), count)]
    return [
        _score([(runs[i], tables[i], drawn[i]) for i, *_ in seeds], metrics) for seeds in families
    ]


def _family(run: Run) -> str:
    """Return what the runs of a candidate have in common: the experiment without its seed."""
    environment = run.environment
    experiment = {k: v for k, v in environment.get("experiment", {}).items() if k != "seed"}
    contents = environment.get("contents", {})
    return json.dumps([experiment, contents, run.data.get("id")], sort_keys=True)


def aligned_predictions(runs: Sequence[Run], split: str) -> list[Predictions]:
    """Return the predictions of each run in the order of the first. Raises RunError."""
    tables = []
    for run in runs:
        run.require_trained()
        if (table := run.predictions_of(split)) is None:
            message = f"it has no predictions of {split}"
            hint = f"sightx evaluate {shell_path(run.directory)} --split {split} writes them"
            raise RunError(Problem("no-predictions", message, hint, file=run.id))
        tables.append(table)
    return [
        _align(runs, tables[0], table, run, split) for run, table in zip(runs, tables, strict=True)
    ]


def _align(
    runs: Sequence[Run], first: Predictions, table: Predictions, run: Run, split: str
) -> Predictions:
    rows = {key: row for row, key in enumerate(table.keys)}
    different = sorted(set(first.keys) ^ rows.keys())
    if not different:
        aligned = table.take(np.array([rows[key] for key in first.keys], dtype=int))
        labels = [
            key
            for key, one, other in zip(first.keys, first.labels, aligned.labels, strict=True)
            if one != other
        ]
        if not labels and aligned.groups == first.groups and table.classes == first.classes:
            return aligned
        different = labels
    shown = ", ".join(different[:_MAX_NAMES])
    message = f"its {split} samples are not those of {runs[0].id}: {len(different)} differ, {shown}"
    hint = "runs can be compared on the same samples, labels, groups and classes only"
    raise RunError(Problem("other-samples", message, hint, file=run.id))


def _score(
    runs: Sequence[tuple[Run, Predictions, Sequence[Mapping[str, Array]]]],
    metrics: Sequence[Metric],
) -> _Scored:
    """Return the numbers of the runs of a candidate; each comes with the draws of each metric."""
    values: dict[str, list[float]] = {}
    draws: dict[str, list[Array]] = {}
    for _, table, drawn in runs:
        for metric, numbers in zip(metrics, drawn, strict=True):
            for key, value in metric_results.metric_values(metric, table).items():
                values.setdefault(key, []).append(value)
                draws.setdefault(key, []).append(numbers[key])
    ids = tuple(run.id for run, _, _ in runs)
    return _Scored(ids[0] if len(ids) == 1 else f"{len(ids)} x {ids[0]}", ids, values, draws)


def _differences(
    one: _Scored, first: _Scored, directions: Mapping[str, str]
) -> dict[str, Difference]:
    differences = {}
    for key in one.values:
        if key not in first.values:
            continue
        value = float(np.mean(one.values[key]) - np.mean(first.values[key]))
        drawn = np.mean(one.drawn[key], axis=0) - np.mean(first.drawn[key], axis=0)
        for scored in (one, first):
            drawn = drawn + _seed_error(scored, key, len(drawn))
        low, high, reason = difference_limits(drawn, _LEVEL)
        is_better = None
        if low > 0 or high < 0:
            is_better = (value > 0) == (directions[key] == "max")
        differences[key] = Difference(value, low, high, is_better, reason)
    return differences


def _seed_error(scored: _Scored, key: str, draws: int) -> Array:
    """Return draws of the error of a mean over seeds, (draws,); 0 for one seed."""
    spread = spread_of(scored.values[key])
    if spread.deviation is None:
        return np.zeros(draws)
    name = hashlib.sha256("\0".join((key, *scored.runs)).encode()).hexdigest()
    t = generator(0, "seeds", name).standard_t(spread.runs - 1, draws)
    return t * spread.deviation / math.sqrt(spread.runs)
