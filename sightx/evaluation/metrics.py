"""Metrics and fitted postprocessing of prediction tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightx.errors import Problem, SpecError
from sightx.records.history import Direction
from sightx.records.predictions import Predictions
from sightx.registry import results
from sightx.registry.kinds import Metric, Postprocess

Array = np.ndarray[Any, Any]
PostprocessStates = list[Mapping[str, Any]]
"""What each component of a postprocessing chain has learned; empty before it is fitted."""


def compute_metrics(
    predictions: Predictions, metrics: Sequence[Metric], split: str
) -> dict[str, float]:
    """Return the values of all metrics, named `split/name`."""
    return {
        f"{split}/{name}": value
        for metric in metrics
        for name, value in results.metric_values(metric, predictions).items()
    }


def metric_directions(metrics: Sequence[Metric], classes: Sequence[str]) -> dict[str, Direction]:
    """Return for each metric of training and validation whether more ("max") or less is better.

    Raises SpecError if two metrics have one name.
    """
    directions: dict[str, Direction] = {
        "train/loss": "min", "validation/loss": "min", "train/accuracy": "max"
    }  # fmt: skip
    for metric in metrics:
        for name, direction in results.metric_directions(metric, classes).items():
            if f"validation/{name}" in directions:
                hint = f"leave out {metric.name}, or the metric that has the name already"
                message = f"{metric.name} computes {name!r}, and so does another metric"
                raise SpecError(Problem("metric-name-twice", message, hint, "metric"))
            directions[f"validation/{name}"] = direction
    return directions


def fit_postprocess(
    chain: Sequence[Postprocess], predictions: Predictions
) -> tuple[PostprocessStates, Predictions]:
    """Fit a postprocessing chain; return what each component learned, and the new predictions."""
    states: PostprocessStates = []
    for component in chain:
        states.append(results.fitted_state(component, predictions))
        predictions = results.postprocessed(component, predictions, states[-1])
    return states, predictions


def apply_postprocess(
    chain: Sequence[Postprocess], states: PostprocessStates, predictions: Predictions
) -> Predictions:
    """Return predictions after a fitted chain; unchanged if the chain has not been fitted."""
    if not states:
        return predictions
    for component, state in zip(chain, states, strict=True):
        predictions = results.postprocessed(component, predictions, state)
    return predictions


def roc_auc(is_positive: Array, scores: Array) -> float:
    """Return the area under the ROC curve, from 0 to 1; NaN without both sorts of samples.

    It is how often a positive sample has a higher score than a negative one, ties counting half (J.
    A. Hanley and B. J. McNeil, 1982). `is_positive` is bool (N,), `scores` (N,).
    """
    positives = int(is_positive.sum())
    pairs = positives * (len(scores) - positives)
    if not pairs:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores, from 1
    rank_sum = ranks[inverse][is_positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / pairs)
