"""Metrics and fitted postprocessing of prediction tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightx.errors import Problem, SpecError
from sightx.records.history import Direction
from sightx.records.predictions import Predictions
from sightx.registry import metric_results, results
from sightx.registry.kinds import Metric, Postprocess

PostprocessStates = list[Mapping[str, Any]]
"""What each component of a postprocessing chain has learned; empty before it is fitted."""


def compute_metrics(
    predictions: Predictions, metrics: Sequence[Metric], split: str
) -> dict[str, float]:
    """Return the values of all metrics, named `split/name`."""
    return {
        f"{split}/{name}": value
        for metric in metrics
        for name, value in metric_results.metric_values(metric, predictions).items()
    }


def metric_directions(metrics: Sequence[Metric], classes: Sequence[str]) -> dict[str, Direction]:
    """Return for each metric of training and validation whether more ("max") or less is better.

    Raises SpecError if two metrics have one name.
    """
    directions: dict[str, Direction] = {
        "train/loss": "min", "validation/loss": "min", "train/accuracy": "max"
    }  # fmt: skip
    for metric in metrics:
        for name, direction in metric_results.metric_directions(metric, classes).items():
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
