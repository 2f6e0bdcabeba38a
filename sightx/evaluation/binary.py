"""A binary decision that a spec declares: some classes are positive, such as those to refer.

The score of a sample is the sum of the probabilities of the positive classes. Two thresholds are
chosen on the validation split and stored in the checkpoint: one with a high sensitivity, and one
with a high specificity (V. Gulshan et al., 2016).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sightx.evaluation.formulas import roc_auc_interval, wilson
from sightx.evaluation.roc import (
    net_benefit,
    threshold_counts,
    weighted_average_precision,
    weighted_roc_auc,
)
from sightx.records.history import Direction
from sightx.records.predictions import Predictions
from sightx.registry.components import Settings
from sightx.registry.kinds import Metric
from sightx.spec.experiment import Evaluation

Array = np.ndarray[Any, Any]
AUC, AVERAGE_PRECISION = "binary-auc", "binary-average-precision"
RATES = ("sensitivity", "specificity", "ppv", "npv")
"""The rates at an operating point; ppv and npv are the predictive values."""
NET_BENEFIT, THRESHOLDS = "net-benefit", (0.05, 0.1, 0.2, 0.3, 0.5)
"""The name of the net benefit, and the thresholds of a probability where it gets an interval."""
_CURVE = np.arange(1, 61) / 100


class OperatingPoint(Settings):
    """A threshold of the score that was chosen on the validation split."""

    name: Literal["high-sensitivity", "high-specificity"]
    """Which rate was to reach the target."""
    target: float
    """The least sensitivity or specificity on the validation split."""
    threshold: float | None = None
    """A sample whose score is at least this is positive; None if no threshold can be chosen."""
    reason: str = ""
    """Why there is no threshold."""


class DecisionCurve(NamedTuple):
    """The net benefit over the threshold of a probability, (T,) each (A. J. Vickers, E. B. Elkin).

    `all_positive` is that of calling every sample positive; calling none has a net benefit of 0.
    """

    thresholds: Array
    model: Array
    all_positive: Array


class BinaryDecision(Settings):
    """The positive classes, and the operating points that were fitted."""

    positive: tuple[str, ...]
    """Names of the positive classes."""
    operating_points: tuple[OperatingPoint, ...]
    """The point with a high sensitivity, and the one with a high specificity."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> BinaryDecision | None:
        """Return the decision that `to_plain` has made a record of; None for None."""
        return None if record is None else cls.model_validate_json(json.dumps(record))

    def metrics(self) -> list[Metric]:
        """Return the metrics of the decision: the areas, and the rates at each threshold."""
        points = [
            _Rates(positive=self.positive, point=point.name, threshold=threshold)
            for point, threshold in self.chosen_points()
        ]
        return [_Areas(positive=self.positive), *points]

    def net_benefit_metric(self) -> Metric:
        """Return the metric of the net benefit at `THRESHOLDS`."""
        return _NetBenefit(positive=self.positive)

    def curve(self, predictions: Predictions) -> DecisionCurve | None:
        """Return the decision curve of the samples with labels; None unless both sorts exist."""
        known = predictions.take(np.flatnonzero(predictions.labels >= 0))
        is_positive = self.is_positive(known)
        if is_positive.all() or not is_positive.any():
            return None
        scores = self.scores(known.probabilities, known.classes)
        parts = (net_benefit(is_positive, s, _CURVE) for s in (scores, np.ones(len(scores))))
        return DecisionCurve(_CURVE, *parts)

    def chosen_points(self) -> list[tuple[OperatingPoint, float]]:
        """Return the operating points that have a threshold, with it."""
        points = [(point, point.threshold) for point in self.operating_points]
        return [(point, threshold) for point, threshold in points if threshold is not None]

    def scores(self, probabilities: Array, classes: Sequence[str]) -> Array:
        """Return the score of each sample, float64 (N,), from probabilities (N, classes)."""
        return binary_scores(probabilities, classes, self.positive)

    def is_positive(self, predictions: Predictions) -> Array:
        """Return whether the label of each sample is positive, bool (N,)."""
        return binary_labels(predictions, self.positive)


def area_metrics(settings: Evaluation) -> list[Metric]:
    """Return the metrics of a declared decision that need no threshold; [] without one."""
    return [] if settings.positive is None else [_Areas(positive=settings.positive)]


def binary_scores(probabilities: Array, classes: Sequence[str], positive: Sequence[str]) -> Array:
    """Return the sum of the probabilities of the positive classes, float64 (N,)."""
    columns = [classes.index(name) for name in positive]
    scores: Array = probabilities[:, columns].astype(np.float64).sum(axis=1)
    return scores


def binary_labels(predictions: Predictions, positive: Sequence[str]) -> Array:
    """Return whether the label of each sample is a positive class, bool (N,)."""
    return np.isin(predictions.labels, [predictions.classes.index(name) for name in positive])


def fit_binary_decision(settings: Evaluation, validation: Predictions) -> BinaryDecision | None:
    """Choose the operating points on the validation split; None if no decision is declared."""
    if settings.positive is None:
        return None
    known = validation.take(np.flatnonzero(validation.labels >= 0))
    is_positive = binary_labels(known, settings.positive)
    scores = binary_scores(known.probabilities, known.classes, settings.positive)
    missing = [name for name, mask in (("positive", is_positive), ("negative", ~is_positive))
               if not mask.any()]  # fmt: skip
    reason = f"no validation sample is {' or '.join(missing)}" if missing else ""
    sensitive, specific = settings.target_sensitivity, settings.target_specificity
    least, most = (None, None) if missing else _thresholds(is_positive, scores, sensitive, specific)
    points = (
        OperatingPoint(name="high-sensitivity", target=sensitive, threshold=least, reason=reason),
        OperatingPoint(name="high-specificity", target=specific, threshold=most, reason=reason),
    )
    return BinaryDecision(positive=settings.positive, operating_points=points)


def _thresholds(
    is_positive: Array, scores: Array, sensitivity: float, specificity: float
) -> tuple[float, float]:
    """Return the highest threshold with a sensitivity, and the lowest with a specificity.

    A threshold lies in the middle between two scores, so that a difference in the last digits, as
    between two machines, changes no decision.
    """
    values, hits, alarms = threshold_counts(is_positive, scores)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    highest = 1.0 if values[-1] < 1 else 2.0  # above all scores: nothing is positive
    edges = np.concatenate([[0.0], values, [highest]])
    middles = (edges[:-1] + edges[1:]) / 2
    middles[0] = 0.0  # at or above the lowest score, everything is positive
    rejected = np.append(negatives - alarms, negatives) / negatives
    last = np.flatnonzero(hits / positives >= sensitivity)[-1]
    first = np.flatnonzero(rejected >= specificity)[0]
    return float(middles[last]), float(middles[first])


class _Areas(Metric):
    """Areas under the ROC curve, and under precision over recall, of a binary decision."""

    name = "binary"

    positive: tuple[str, ...]
    """Names of the positive classes."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the names of the two areas."""
        return {AUC: "max", AVERAGE_PRECISION: "max"}

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the areas; NaN unless both sorts of samples are there."""
        areas = self.weighted(predictions, np.ones((1, len(predictions))))
        return {name: float(area[0]) for name, area in areas.items()}

    def weighted(self, predictions: Predictions, weights: Array) -> Mapping[str, Array]:
        """Return the areas for each row of weights."""
        known = predictions.labels >= 0
        is_positive = binary_labels(predictions, self.positive)[known]
        scores = binary_scores(predictions.probabilities, predictions.classes, self.positive)[known]
        return {
            AUC: weighted_roc_auc(is_positive, scores, weights[:, known]),
            AVERAGE_PRECISION: weighted_average_precision(is_positive, scores, weights[:, known]),
        }

    def intervals(
        self, predictions: Predictions, *, sums: Array | None, level: float
    ) -> Mapping[str, tuple[float, float]]:
        """Return the interval of the area under the ROC curve."""
        known = predictions.take(np.flatnonzero(predictions.labels >= 0))
        is_positive = binary_labels(known, self.positive)
        scores = binary_scores(known.probabilities, known.classes, self.positive)
        one = roc_auc_interval(is_positive, scores, known.group_positions, level=level)
        return {AUC: (one.low, one.high)}


class _Rates(Metric):
    """Sensitivity, specificity and predictive values at a threshold of a binary decision."""

    name = "operating-point"

    positive: tuple[str, ...]
    """Names of the positive classes."""
    point: str
    """Name of the operating point."""
    threshold: float
    """A sample whose score is at least this is predicted as positive."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the names of the rates."""
        return {f"{self.point}/{rate}": "max" for rate in RATES}

    def sums(self, predictions: Predictions) -> Array:
        """Return a 1 for each sample in one of (tp, fp, fn, tn), float (N, 4)."""
        scores = binary_scores(predictions.probabilities, predictions.classes, self.positive)
        is_called, is_positive = scores >= self.threshold, binary_labels(predictions, self.positive)
        cells = np.stack(
            [is_called & is_positive, is_called & ~is_positive, ~is_called & is_positive,
             ~is_called & ~is_positive], axis=1,
        )  # fmt: skip
        return (cells & (predictions.labels >= 0)[:, None]).astype(float)

    def of(self, sums: Array, *, classes: Sequence[str]) -> Mapping[str, Array]:
        """Return the rates; NaN without samples that they are a share of."""
        return {
            name: np.divide(part, total, out=np.full(np.shape(total), math.nan), where=total > 0)
            for name, (part, total) in self._counts(sums).items()
        }

    def intervals(
        self, predictions: Predictions, *, sums: Array | None, level: float
    ) -> Mapping[str, tuple[float, float]]:
        """Return Wilson's interval of each rate."""
        if sums is None:
            return {}
        limits = {k: wilson(*counts, level=level) for k, counts in self._counts(sums).items()}
        return {name: (float(low), float(high)) for name, (low, high) in limits.items()}

    def _counts(self, sums: Array) -> dict[str, tuple[Array, Array]]:
        """Return part and total of each rate."""
        tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
        pairs = ((tp, tp + fn), (tn, tn + fp), (tp, tp + fp), (tn, tn + fn))
        return dict(zip(self.values(()), pairs, strict=True))


class _NetBenefit(Metric):
    """Net benefit of a binary decision at some thresholds of the probability."""

    name = NET_BENEFIT

    positive: tuple[str, ...]
    """Names of the positive classes."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return a name for each threshold."""
        return {f"{self.name}/{threshold:g}": "max" for threshold in THRESHOLDS}

    def sums(self, predictions: Predictions) -> Array:
        """Return what each sample adds to the net benefit at each threshold, and a 1."""
        scores = binary_scores(predictions.probabilities, predictions.classes, self.positive)
        is_positive, is_known = binary_labels(predictions, self.positive), predictions.labels >= 0
        benefits = [
            (scores >= threshold) * np.where(is_positive, 1.0, -threshold / (1 - threshold))
            for threshold in THRESHOLDS
        ]
        sums: Array = np.stack([*benefits, np.ones(len(scores))], axis=1) * is_known[:, None]
        return sums

    def of(self, sums: Array, *, classes: Sequence[str]) -> Mapping[str, Array]:
        """Return the mean of each."""
        *benefits, samples = np.moveaxis(sums, -1, 0)
        numbers = (
            np.divide(one, samples, out=np.full(np.shape(samples), math.nan), where=samples > 0)
            for one in benefits
        )
        return dict(zip(self.values(classes), numbers, strict=True))
