"""Figures and decisions from a table of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightx.records.history import Direction
from sightx.records.predictions import Predictions
from sightx.registry.kinds import Metric, Postprocess

PostprocessStates = list[Mapping[str, Any]]


def compute_metrics(
    predictions: Predictions, metrics: Sequence[Metric], side: str
) -> dict[str, float]:
    """Return every metric's figures, named `side/figure`."""
    return {
        f"{side}/{name}": float(value)
        for metric in metrics
        for name, value in metric.compute(predictions).items()
    }


def metric_directions(metrics: Sequence[Metric], classes: Sequence[str]) -> dict[str, Direction]:
    """Return which way each figure of training and validation is better."""
    known: dict[str, Direction] = {
        "train/loss": "min", "validation/loss": "min", "train/accuracy": "max"
    }  # fmt: skip
    for metric in metrics:
        known |= {f"validation/{name}": way for name, way in metric.values(classes).items()}
    return known


def fit_postprocess(
    decides: Sequence[Postprocess], predictions: Predictions
) -> tuple[PostprocessStates, Predictions]:
    """Fit a chain of decisions; return what each learned, and the predictions as decided."""
    states: PostprocessStates = []
    for decide in decides:
        states.append(decide.fit(predictions))
        predictions = decide.apply(predictions, states[-1])
    return states, predictions


def apply_postprocess(
    decides: Sequence[Postprocess], states: PostprocessStates, predictions: Predictions
) -> Predictions:
    """Return predictions as a fitted chain decides them; as they are where nothing was fitted."""
    if not states:
        return predictions
    for decide, state in zip(decides, states, strict=True):
        predictions = decide.apply(predictions, state)
    return predictions
