"""Numbers of a split as a reader needs them: with an interval, and next to the majority class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sightx.evaluation.intervals import DRAWS, confidence_intervals
from sightx.records.history import Direction
from sightx.records.predictions import Predictions
from sightx.registry.kinds import Metric
from sightx.registry.metric_results import metric_directions, metric_values

Array = np.ndarray[Any, Any]


class Estimate(NamedTuple):
    """A metric of a split.

    Attributes:
        value: The number; NaN if it is undefined.
        low: Lower limit of its 95 % interval over groups; NaN if it is undefined.
        high: Upper limit.
        baseline: The number if the most frequent class of the train split is always predicted.
        direction: Whether more ("max") or less ("min") is better.
        reason: Why the number is undefined; "" if it is not.
    """

    value: float
    low: float
    high: float
    baseline: float
    direction: Direction
    reason: str = ""

    @property
    def beats_baseline(self) -> bool:
        """Return whether the whole interval is better than the baseline."""
        return self.low > self.baseline if self.direction == "max" else self.high < self.baseline

    @property
    def is_below_baseline(self) -> bool:
        """Return whether the whole interval is worse than the baseline."""
        return self.high < self.baseline if self.direction == "max" else self.low > self.baseline


def estimate_metrics(
    predictions: Predictions,
    metrics: Sequence[Metric],
    train_counts: Sequence[int],
    *,
    draws: int = DRAWS,
) -> dict[str, Estimate]:
    """Return each number of the metrics with its 95 % interval and its baseline.

    `train_counts` are the samples of each class in the train split.
    """
    majority = majority_predictions(predictions, np.asarray(train_counts))
    intervals = confidence_intervals(predictions, metrics, draws=draws)
    estimates = {}
    for metric in metrics:
        baselines = metric_values(metric, majority)
        for name, direction in metric_directions(metric, predictions.classes).items():
            interval, reason = intervals[name], ""
            if math.isnan(interval.value):
                reason = undefined_reason(name, predictions)
            limits = (interval.value, interval.low, interval.high)
            estimates[name] = Estimate(*limits, baselines[name], direction, reason)
    return estimates


def majority_predictions(predictions: Predictions, train_counts: Array) -> Predictions:
    """Return predictions of the most frequent class, with the shares of classes, for all samples.

    The shares are those of the train split; without samples there, all are alike.
    """
    total = train_counts.sum()
    shares = train_counts / total if total else np.full(len(train_counts), 1 / len(train_counts))
    probabilities = np.tile(shares, (len(predictions), 1)).astype(np.float32)
    return replace(
        predictions,
        outputs=np.log(np.maximum(probabilities, 1e-12)),
        probabilities=probabilities,
        decisions=np.full(len(predictions), int(shares.argmax())),
    )


def undefined_reason(name: str, predictions: Predictions) -> str:
    """Return why a metric of these samples is undefined, in a few words."""
    known = predictions.labels[predictions.labels >= 0]
    if not len(known):
        return "no sample has a label"
    cls = name.rpartition("/")[2]
    if cls in predictions.classes:
        count = int((known == predictions.classes.index(cls)).sum())
        if not count:
            return f"no sample of {cls}"
        if count == len(known):
            return f"all samples are of {cls}"
    if len(np.unique(known)) == 1:
        return f"all samples are of {predictions.classes[known[0]]}"
    return "undefined for these predictions"


def to_result(estimates: Mapping[str, Estimate], split: str) -> dict[str, dict[str, Any]]:
    """Return `intervals`, `baselines` and `undefined` of a split, as result.json holds them."""
    items = [(f"{split}/{name}", estimate) for name, estimate in estimates.items()]
    return {
        "intervals": {key: [one.low, one.high] for key, one in items},
        "baselines": {key: one.baseline for key, one in items},
        "undefined": {key: one.reason for key, one in items if one.reason},
    }
