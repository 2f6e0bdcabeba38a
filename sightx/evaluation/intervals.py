"""Confidence intervals of metrics that respect groups, such as patients.

Samples of one group are not independent, so whole groups are drawn. A metric that is a function of
sums (`Metric.sums`) is computed for all draws at once: how often each draw has each group, times
what each group adds. Other metrics may take weights of samples (`Metric.weighted`). Numbers that
have a formula (`Metric.intervals`) get that interval, because a bootstrap covers the recall of a
class that few groups have much too rarely.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Literal, NamedTuple

import numpy as np

from sightx.records.predictions import Predictions
from sightx.registry import results
from sightx.registry.components import call_declared
from sightx.registry.kinds import Metric
from sightx.registry.metric_results import (
    arrays,
    metric_directions,
    metric_sums,
    metric_values,
    numbers_of,
)
from sightx.seeds import generator

Array = np.ndarray[Any, Any]

DRAWS = 10_000
"""Draws of groups: the error of an interval's end is then 3 % of the standard error."""
RESAMPLED_DRAWS = 1_000
"""Draws for a metric without sums, which is computed for each of them; fewer for long tables."""
_MIN_RESAMPLED_DRAWS, _RESAMPLED_SAMPLES = 100, 2_000_000  # samples of all draws, about
_CHUNK_SIZE = 1 << 22  # numbers of a block of draws
_MAX_SUMS = 1 << 24  # sums of all groups; a metric with more is computed from predictions
_ROUNDING = 1e-12  # differences that are closer are equal

Method = Literal["formula", "bootstrap", "resampling"]


class Interval(NamedTuple):
    """A number and its confidence interval; the limits are NaN where they are undefined.

    `method` is formula (that of the metric), bootstrap (percentiles over draws of groups) or
    resampling (the same for a metric without sums, with fewer draws). `reason` is why a difference
    has no interval although it has a value; "" otherwise.
    """

    value: float
    low: float
    high: float
    method: Method
    reason: str = ""


def confidence_intervals(
    predictions: Predictions,
    metrics: Sequence[Metric],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
) -> dict[str, Interval]:
    """Return the interval of each number of the metrics; the same predictions give the same ones.

    Draws without a value, for example without a sample of a class, are left out.
    """
    intervals: dict[str, Interval] = {}
    resampled = [Resampled(metric, predictions) for metric in metrics]
    limits = [item.formula_limits(level) for item in resampled]
    names = [metric_directions(metric, predictions.classes) for metric in metrics]
    is_drawn = [known.keys() < set(all_) for known, all_ in zip(limits, names, strict=True)]
    drawn = iter(draw_numbers(list(compress(resampled, is_drawn)), draws))
    for item, known, needs_draws in zip(resampled, limits, is_drawn, strict=True):
        draws_of = next(drawn) if needs_draws else {}
        for name, value in metric_values(item.metric, predictions).items():
            if math.isnan(value):
                intervals[name] = Interval(value, math.nan, math.nan, item.method)
            elif name in known:
                intervals[name] = Interval(value, *known[name], "formula")
            else:
                intervals[name] = Interval(value, *percentiles(draws_of[name], level), item.method)
    return intervals


def paired_differences(
    one: Predictions,
    other: Predictions,
    metrics: Sequence[Metric],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
) -> dict[str, Interval]:
    """Return the interval of each number of `one` minus that of `other`.

    Both are predictions of the same samples, in the same order, and are drawn together: the
    interval is narrower than those of the two numbers. Raises ValueError for other samples.
    """
    if one.keys != other.keys or one.groups != other.groups:
        raise ValueError("the two tables have different samples, groups or orders")
    differences: dict[str, Interval] = {}
    tables, count = (one, other), len(metrics)
    resampled = [Resampled(metric, table) for table in tables for metric in metrics]
    drawn = draw_numbers(resampled, draws)
    for item, first, second in zip(resampled[:count], drawn[:count], drawn[count:], strict=True):
        values, others = (metric_values(item.metric, table) for table in tables)
        for name, value in values.items():
            low, high, reason = difference_limits(first[name] - second[name], level)
            differences[name] = Interval(value - others[name], low, high, item.method, reason)
    return differences


class Resampled:
    """A metric of predictions whose groups are drawn with replacement.

    `groups` (N,) has the position of each sample's group, `group_sums` (G, S) what each group adds,
    None if the metric has no sums.
    """

    def __init__(self, metric: Metric, predictions: Predictions) -> None:
        self.metric, self.predictions = metric, predictions
        self.groups = predictions.group_positions
        self.count = int(self.groups.max(initial=-1)) + 1
        self.group_sums = sums_by_group(metric, predictions, self.groups, self.count)

    @property
    def resampled_draws(self) -> int:
        """Return how many draws a metric without sums gets, so that the time stays in seconds."""
        affordable = _RESAMPLED_SAMPLES // max(len(self.predictions), 1)
        return min(max(affordable, _MIN_RESAMPLED_DRAWS), RESAMPLED_DRAWS)

    @property
    def method(self) -> Method:
        """Return how the metric is drawn."""
        return "resampling" if self.group_sums is None else "bootstrap"

    def formula_limits(self, level: float) -> dict[str, tuple[float, float]]:
        """Return the limits of the numbers that have a formula. Raises PluginError for others."""
        if not self.count:
            return {}
        method, predictions = self.metric.intervals, self.predictions
        limits = call_declared(method, predictions, sums=self.group_sums, level=level)
        if not isinstance(limits, Mapping) or not limits.keys() <= set(
            self.metric.values(predictions.classes)
        ):
            hint = "return (low, high) for some of the names of values()"
            raise results.wrong_result(method, "returned no such limits", hint)
        return {name: (float(low), float(high)) for name, (low, high) in limits.items()}

    def numbers(self, counts: Array) -> dict[str, Array]:
        """Return the numbers for some draws; counts (draws, G) say how often each has a group."""
        if self.group_sums is not None:
            return numbers_of(self.metric, counts @ self.group_sums, self.predictions.classes)
        if (weighted := self._weighted(counts)) is not None:
            return weighted
        order = np.argsort(self.groups, kind="stable")
        samples = (np.repeat(order, row[self.groups[order]].astype(int)) for row in counts)
        values = [metric_values(self.metric, self.predictions.take(rows)) for rows in samples]
        return {name: np.array([value[name] for value in values]) for name in values[0]}

    def _weighted(self, counts: Array) -> dict[str, Array] | None:
        """Return the numbers for some draws, from weights of samples; None: it has no such way."""
        method, names = self.metric.weighted, set(self.metric.values(self.predictions.classes))
        parts, block = [], max(_CHUNK_SIZE // max(len(self.predictions), 1), 1)
        for start in range(0, len(counts), block):
            weights = counts[start : start + block][:, self.groups]
            numbers = call_declared(method, self.predictions, weights)
            if numbers is None:
                return None
            parts.append(arrays(names, method, numbers, (len(weights),)))
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


def purpose_of(predictions: Predictions) -> str:
    """Return what seeds random draws: the same samples get the same draws in every run."""
    return hashlib.sha256("\0".join(predictions.keys).encode()).hexdigest()


def draw_numbers(resampled: Sequence[Resampled], draws: int) -> list[dict[str, Array]]:
    """Return the numbers of metrics of the same samples for every draw of groups, (draws,) each.

    All get the same draws; a metric without sums gets the first `resampled_draws` of them.
    """
    if not resampled:
        return []
    parts: list[list[dict[str, Array]]] = [[] for _ in resampled]
    predictions, groups, done = resampled[0].predictions, resampled[0].count, 0
    for counts in draw_counts(groups, draws, purpose_of(predictions)) if groups else ():
        for item, item_parts in zip(resampled, parts, strict=True):
            left = len(counts) if item.group_sums is not None else item.resampled_draws - done
            if left > 0:
                item_parts.append(item.numbers(counts[:left]))
        done += len(counts)
    return [
        {
            name: np.concatenate([np.zeros(0), *(part[name] for part in item_parts)])
            for name in metric_directions(item.metric, predictions.classes)
        }
        for item, item_parts in zip(resampled, parts, strict=True)
    ]


def sums_by_group(
    metric: Metric, predictions: Predictions, groups: Array, count: int
) -> Array | None:
    """Return what each of `count` groups of samples adds to a metric, float (count, S).

    `groups` (N,) are positions of groups: patients, or values of a column. The numbers of a metric
    are `numbers_of` these sums, of any sum of them, and of sums of several tables. Returns None for
    a metric without sums, or if they do not fit into memory.
    """
    first = metric_sums(metric, predictions.take(np.arange(min(len(predictions), 1))))
    if first is None or max(count, 1) * first.shape[1] > _MAX_SUMS:
        return None
    total = np.zeros((count, first.shape[1]))
    block = max(_CHUNK_SIZE // max(first.shape[1], 1), 1)
    for start in range(0, len(predictions), block):
        rows = np.arange(start, min(start + block, len(predictions)))
        if (sums := metric_sums(metric, predictions.take(rows))) is None:
            return None
        np.add.at(total, groups[rows], sums)
    return total


def draw_counts(groups: int, draws: int, seed: str) -> Iterator[Array]:
    """Yield blocks of draws with replacement: how often each has each group, float (..., groups).

    The draws depend only on the arguments.
    """
    rng = generator(0, "bootstrap", seed)
    block = max(_CHUNK_SIZE // groups, 1)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(0, groups, (size, groups)) + np.arange(size)[:, None] * groups
        counts = np.bincount(drawn.ravel(), minlength=size * groups)
        yield counts.reshape(size, groups).astype(np.float64)


def percentiles(values: Array, level: float) -> tuple[float, float]:
    """Return the limits between which a fraction `level` of the finite values lies."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def difference_limits(values: Array, level: float) -> tuple[float, float, str]:
    """Return the limits of a difference from its draws (draws,), and why it has no interval.

    Limits that coincide do not mean that the difference is certain: the samples are too few or too
    easy to show how much it varies. Then they are NaN and the reason says so; otherwise it is "".
    """
    low, high = percentiles(values, level)
    if not high - low <= _ROUNDING:
        return low, high, ""
    share = "every" if np.nanmax(values) - np.nanmin(values) <= _ROUNDING else "nearly every"
    return math.nan, math.nan, f"{share} resample gives the same difference"
