"""Classification metrics, computed from the confusion matrix.

Samples with unknown labels are left out. If no sample is left, all metrics are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightx.plugin import Direction, Metric

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import Predictions

    Array = np.ndarray[Any, Any]


class _ConfusionMetric(Metric):
    """A metric that is a function of the confusion matrix."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return one number with the name of the metric; higher is better."""
        return {self.name: "max"}

    def from_confusion(self, counts: Array) -> Sequence[float]:
        """Return the numbers in the order of `values`; `counts[true, predicted]` are not all 0."""
        raise NotImplementedError

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the metrics of the samples with known labels."""
        names = self.values(predictions.classes)
        counts = predictions.confusion()
        if not counts.any():
            return dict.fromkeys(names, math.nan)
        return dict(zip(names, map(float, self.from_confusion(counts)), strict=True))


class _PerClassMetric(_ConfusionMetric):
    """A metric per class, `name/class`, and their mean over the classes where it is defined."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the mean's name, and one name per class."""
        return {self.name: "max", **{f"{self.name}/{cls}": "max" for cls in classes}}

    def per_class(self, hits: Array, present: Array, predicted: Array) -> Array:
        """Return the metric of each class, (classes,), NaN where it is undefined.

        Args:
            hits: Correctly predicted samples of each class, int (classes,).
            present: Samples of each class.
            predicted: Predictions of each class.
        """
        raise NotImplementedError

    def from_confusion(self, counts: Array) -> Sequence[float]:
        """Return the mean, and then the metric of each class."""
        values = self.per_class(counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0))
        defined = [value for value in values if not math.isnan(value)]
        return [sum(defined) / len(defined) if defined else math.nan, *values]


class Accuracy(_ConfusionMetric):
    """Fraction of correct predictions."""

    name = "accuracy"
    rewards_majority = True

    def from_confusion(self, counts: Array) -> Sequence[float]:
        """Return the accuracy."""
        return [counts.trace() / counts.sum()]


class Precision(_PerClassMetric):
    """Fraction of the predictions of a class that are correct, per class and mean.

    It is 0 for a class that has samples but is never predicted, and NaN for a class that has
    neither samples nor predictions; NaN is left out of the mean.
    """

    name = "precision"

    def per_class(self, hits: Array, present: Array, predicted: Array) -> Array:
        """Return the precision of each class."""
        import numpy as np

        return _ratio(hits, np.where(present > 0, predicted.clip(min=1), predicted))


class Recall(_PerClassMetric):
    """Fraction of the samples of a class that are predicted correctly, per class and mean.

    It is NaN for a class without samples, which is left out of the mean. The mean is the balanced
    accuracy.
    """

    name = "recall"

    def per_class(self, hits: Array, present: Array, predicted: Array) -> Array:
        """Return the recall of each class."""
        return _ratio(hits, present)


class BalancedAccuracy(_ConfusionMetric):
    """Mean recall of the classes that have samples."""

    name = "balanced-accuracy"

    def from_confusion(self, counts: Array) -> Sequence[float]:
        """Return the balanced accuracy."""
        return Recall().from_confusion(counts)[:1]


class F1(_PerClassMetric):
    """Harmonic mean of precision and recall, per class and mean.

    It is NaN for a class that has neither samples nor predictions; NaN is left out of the mean.
    """

    name = "f1"

    def per_class(self, hits: Array, present: Array, predicted: Array) -> Array:
        """Return the F1 of each class."""
        return _ratio(2 * hits, present + predicted)


class Qwk(_ConfusionMetric):
    """Quadratic weighted kappa: agreement of ordered classes beyond chance.

    1 means full agreement, 0 the agreement of chance (J. Cohen, 1968). It is NaN if all labels and
    predictions are one and the same class, because chance then agrees fully too.
    """

    name = "qwk"
    needs_order = True

    def from_confusion(self, counts: Array) -> Sequence[float]:
        """Return 1 - sum(d^2 observed) / sum(d^2 expected by chance), d the distance of classes."""
        import numpy as np

        classes = np.arange(len(counts))
        distances = (classes[:, None] - classes) ** 2
        expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
        return [1 - float(_ratio((distances * counts).sum(), (distances * expected).sum()))]


class ConfusionMatrix(_ConfusionMetric):
    """Number of samples for each pair of true and predicted class.

    The names are `confusion/true class/predicted class`.
    """

    name = "confusion-matrix"

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return one name per pair of classes; off the diagonal, lower is better."""
        return {
            f"confusion/{true}/{predicted}": "max" if true == predicted else "min"
            for true in classes
            for predicted in classes
        }

    def from_confusion(self, counts: Array) -> Sequence[float]:
        """Return the counts, row by row."""
        return [float(count) for count in counts.ravel()]


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide elementwise; the result is NaN where the denominator is 0."""
    import numpy as np

    out = np.full(np.shape(denominator), math.nan)
    ratio: Array = np.divide(numerator, denominator, out=out, where=denominator != 0)
    return ratio
