"""Whether probabilities mean what they say: reliability, and the error that chance alone gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sightx.evaluation.formulas import wilson
from sightx.evaluation.intervals import purpose_of
from sightx.records.predictions import Predictions
from sightx.seeds import generator

Array = np.ndarray[Any, Any]
BINS = 15
"""Bins of the expected calibration error, of equal width (C. Guo et al., 2017)."""
_DRAWS = 1_000


class ReliabilityBin(NamedTuple):
    """Samples of similar probability: their mean probability, and how often it was right."""

    probability: float
    rate: float
    low: float
    high: float
    samples: int


class CalibrationError(NamedTuple):
    """The expected calibration error, and that of calibrated probabilities for as many samples.

    `expected` is the mean and `limit` the 95th percentile of the error if every probability were
    right: an error below the limit does not show miscalibration.
    """

    value: float
    expected: float
    limit: float

    @property
    def verdict(self) -> str:
        """Return in words whether the error is larger than chance explains."""
        return "miscalibrated" if self.value > self.limit else "no miscalibration visible"


def reliability(
    probabilities: Array, is_true: Array, groups: Array, *, bins: int = 10
) -> list[ReliabilityBin]:
    """Return bins of about equally many samples, with Wilson's interval over groups of each rate.

    Args:
        probabilities: Probability of an event, (N,).
        is_true: Whether the event happened, bool (N,).
        groups: Position of each sample's group, int (N,).
        bins: The number of bins, at most.
    """
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(bins, len(order))) if len(order) else []
    return [_reliability_bin(probabilities[part], is_true[part], groups[part]) for part in parts]


def _reliability_bin(probabilities: Array, is_true: Array, groups: Array) -> ReliabilityBin:
    _, positions = np.unique(groups, return_inverse=True)
    hits, totals = np.bincount(positions, is_true.astype(float)), np.bincount(positions)
    low, high = wilson(hits, totals.astype(float))
    return ReliabilityBin(
        float(probabilities.mean()), float(is_true.mean()), float(low), float(high), len(is_true)
    )


def calibration_error(predictions: Predictions) -> CalibrationError | None:
    """Return the error of the most probable class's probability; None without labels.

    The error of calibrated probabilities comes from labels that are drawn from the probabilities
    (J. Broecker and L. A. Smith, Weather and Forecasting 22, 2007).
    """
    known = predictions.labels >= 0
    if not known.any():
        return None
    probabilities = predictions.probabilities[known].astype(np.float64)
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == predictions.labels[known]
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    random = generator(0, "calibration", purpose_of(predictions))
    drawn = random.random((_DRAWS, len(confidence))) < confidence
    value, *null = _binned_errors(np.vstack([is_right[None], drawn]), confidence, bins)
    return CalibrationError(float(value), float(np.mean(null)), float(np.quantile(null, 0.95)))


def _binned_errors(is_right: Array, confidence: Array, bins: Array) -> Array:
    """Return the expected calibration error of each row of outcomes, bool (draws, N)."""
    member = np.eye(BINS)[bins]
    errors: Array = np.abs((is_right - confidence) @ member).sum(axis=1) / len(confidence)
    return errors
