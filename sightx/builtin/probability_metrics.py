"""Metrics of predicted probabilities, whatever the decisions are.

Samples with unknown labels are left out. If no sample is left, all metrics are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from sightx.builtin.metrics import divide, mean_and_classes
from sightx.plugin import Direction, Metric

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import Predictions

    Array = np.ndarray[Any, Any]

_SMALLEST = 2.0**-23  # as scikit-learn clips probabilities of type float32


class _MeanScore(Metric):
    """The mean over samples of a score, of which less is better."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return one number with the name of the metric; lower is better."""
        return {self.name: "min"}

    def scores(self, probabilities: Array, labels: Array) -> Array:
        """Return the score of each sample, (N,), of float64 probabilities (N, classes)."""
        raise NotImplementedError

    def sums(self, predictions: Predictions) -> Array:
        """Return the score of each sample and a 1, float (N, 2); zeros if it has no label."""
        import numpy as np

        sums, is_known = np.zeros((len(predictions), 2)), predictions.labels >= 0
        probabilities = predictions.probabilities[is_known].astype(np.float64)
        sums[is_known, 0] = self.scores(probabilities, predictions.labels[is_known])
        sums[is_known, 1] = 1
        return sums

    def of(self, sums: Array, *, classes: Sequence[str]) -> Mapping[str, Array]:
        """Return the mean score."""
        return {self.name: divide(sums[..., 0], sums[..., 1])}


class LogLoss(_MeanScore):
    """Mean of -ln of the probability of the true class, in nats.

    Probabilities below 2^-23 count as 2^-23, as in scikit-learn.
    """

    name = "log-loss"
    other_names = ("nll", "cross_entropy")

    def scores(self, probabilities: Array, labels: Array) -> Array:
        """Return -ln of the probability of each sample's class."""
        import numpy as np

        scores: Array = -np.log(probabilities[np.arange(len(labels)), labels].clip(min=_SMALLEST))
        return scores


class Brier(_MeanScore):
    """Mean squared distance of the probabilities from the truth, from 0 to 2.

    The score of a sample is sum_c (p_c - [c is true])^2 (G. W. Brier, 1950).
    """

    name = "brier"
    other_names = ("brier_score",)

    def scores(self, probabilities: Array, labels: Array) -> Array:
        """Return the squared distance of each sample."""
        import numpy as np

        truth = labels[:, None] == np.arange(probabilities.shape[1])
        scores: Array = ((probabilities - truth) ** 2).sum(axis=1)
        return scores


class Rps(_MeanScore):
    """Ranked probability score of ordered classes, from 0 to 1.

    The score of a sample is the mean over the thresholds between classes of
    (P(class <= k) - [true class <= k])^2 (E. S. Epstein, 1969).
    """

    name = "rps"
    needs_order = True

    def scores(self, probabilities: Array, labels: Array) -> Array:
        """Return the mean squared distance of the cumulative probabilities."""
        import numpy as np

        thresholds = np.arange(probabilities.shape[1] - 1)
        truth = labels[:, None] <= thresholds
        cumulative = np.cumsum(probabilities, axis=1)[:, :-1]
        scores: Array = ((cumulative - truth) ** 2).sum(axis=1) / max(len(thresholds), 1)
        return scores


class Ece(Metric):
    """Expected calibration error of the most probable class, from 0 to 1.

    Samples are put into bins of equal width by the probability of their most probable class. The
    error is the mean over samples of the distance between a bin's mean probability and its
    accuracy (C. Guo et al., 2017). It is above 0 for a calibrated network too, the more so the
    fewer samples there are.
    """

    name = "ece"
    other_names = ("calibration_error", "expected_calibration_error")

    bins: PositiveInt = 15
    """Number of bins between 0 and 1."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return one number with the name of the metric; lower is better."""
        return {self.name: "min"}

    def sums(self, predictions: Predictions) -> Array:
        """Return, per bin, a 1, the probability, and whether it is right: float (N, 3 bins)."""
        import numpy as np

        rows = np.flatnonzero(predictions.labels >= 0)
        probabilities = predictions.probabilities[rows].astype(np.float64)
        confidence = probabilities.max(axis=1, initial=0)
        is_right = probabilities.argmax(axis=1) == predictions.labels[rows]
        # A bin includes its upper limit, as in Guo et al., so that 1 is in the last one.
        limits = np.linspace(0, 1, self.bins + 1)[1:-1]
        bins = np.searchsorted(limits, confidence)
        sums = np.zeros((len(predictions), 3, self.bins))
        sums[rows, 0, bins], sums[rows, 1, bins], sums[rows, 2, bins] = 1, confidence, is_right
        return sums.reshape(len(predictions), 3 * self.bins)

    def of(self, sums: Array, *, classes: Sequence[str]) -> Mapping[str, Array]:
        """Return the sum over bins of |probabilities - right|, divided by the samples."""
        import numpy as np

        counts, confidence, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
        distance = np.abs(confidence - right).sum(axis=-1)
        return {self.name: divide(distance, counts.sum(axis=-1))}

    def intervals(
        self, predictions: Predictions, *, sums: Array | None, level: float
    ) -> Mapping[str, tuple[float, float]]:
        """Return the interval of the jackknife over groups."""
        from sightx.plugin import jackknife_interval

        if sums is None:
            return {}

        def number(totals: Array) -> Array:
            return self.of(totals, classes=predictions.classes)[self.name]

        low, high = jackknife_interval(number, sums, level=level)
        return {self.name: (max(low, 0.0), min(high, 1.0))}


class Auc(Metric):
    """Area under the ROC curve of each class against all others, and their mean.

    It is the probability that a sample of the class gets a higher probability of the class than a
    sample of another one, equal ones count half (J. A. Hanley and B. J. McNeil, 1982). It is NaN if
    a class has no samples, or all; NaN is left out of the mean. It compares pairs of samples, so it
    is not a function of sums over samples.
    """

    name = "auc"
    other_names = ("roc_auc", "auroc", "roc")

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the mean's name, and one name per class."""
        return mean_and_classes(self.name, classes)

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the area of each class, from the ranks of its probabilities."""
        from sightx.plugin import roc_auc

        labels = predictions.labels[predictions.labels >= 0]
        probabilities = predictions.probabilities[predictions.labels >= 0]
        areas = [
            roc_auc(labels == number, probabilities[:, number])
            for number in range(len(predictions.classes))
        ]
        defined = [area for area in areas if not math.isnan(area)]
        mean = sum(defined) / len(defined) if defined else math.nan
        return dict(zip(self.values(predictions.classes), [mean, *areas], strict=True))

    def weighted(self, predictions: Predictions, weights: Array) -> Mapping[str, Array]:
        """Return the areas for each row of weights."""
        import numpy as np

        from sightx.plugin import weighted_roc_auc

        known = predictions.labels >= 0
        labels, probabilities = predictions.labels[known], predictions.probabilities[known]
        areas = [
            weighted_roc_auc(labels == number, probabilities[:, number], weights[:, known])
            for number in range(len(predictions.classes))
        ]
        is_defined = ~np.isnan(areas)
        means = divide(np.nansum(areas, axis=0), is_defined.sum(axis=0))
        return dict(zip(self.values(predictions.classes), [means, *areas], strict=True))

    def intervals(
        self, predictions: Predictions, *, sums: Array | None, level: float
    ) -> Mapping[str, tuple[float, float]]:
        """Return the interval of each area, and that of the mean, which follows from them."""
        import numpy as np

        from sightx.plugin import mean_interval, roc_auc_interval

        known = predictions.take(np.flatnonzero(predictions.labels >= 0))
        values = np.array(list(self.compute(known).values()))[1:]
        columns, groups = known.probabilities.T, known.group_positions
        areas = [
            roc_auc_interval(known.labels == number, scores, groups, level=level)
            for number, scores in enumerate(columns)
        ]
        low, high, influence = (np.array(part) for part in zip(*areas, strict=True))
        mean = mean_interval(values, (low, high), influence.T)
        names = self.values(predictions.classes)
        return dict(zip(names, [mean, *zip(low, high, strict=True)], strict=True))
