"""Classification metrics of decisions, computed from the confusion matrix.

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
    """A metric that is a function of the confusion matrix; its sums are the counts, row by row."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return one number with the name of the metric; higher is better."""
        return {self.name: "max"}

    def from_confusion(self, counts: Array) -> Sequence[Array]:
        """Return the numbers, (...) each, in the order of `values`.

        `counts[..., true, predicted]` may be weighted, and are 0 without samples.
        """
        raise NotImplementedError

    def sums(self, predictions: Predictions) -> Array:
        """Return a 1 at each sample's true and predicted class, float (N, classes^2)."""
        import numpy as np

        size = len(predictions.classes)
        sums = np.zeros((len(predictions), size * size))
        rows = np.flatnonzero(predictions.labels >= 0)
        sums[rows, predictions.labels[rows] * size + predictions.decisions[rows]] = 1
        return sums

    def of(self, sums: Array, *, classes: Sequence[str]) -> Mapping[str, Array]:
        """Return the metrics of confusion matrices."""
        import numpy as np

        counts = _matrices(sums, len(classes))
        is_empty = sums.sum(axis=-1) == 0
        numbers = (np.where(is_empty, math.nan, value) for value in self.from_confusion(counts))
        return dict(zip(self.values(classes), numbers, strict=True))

    def intervals(
        self, predictions: Predictions, *, sums: Array | None, level: float
    ) -> Mapping[str, tuple[float, float]]:
        """Return the limits of the numbers, or of none."""
        if sums is None:
            return {}
        limits = self.limits(_matrices(sums, len(predictions.classes)), level)
        return dict(zip(self.values(predictions.classes), limits, strict=bool(limits)))

    def limits(self, counts: Array, level: float) -> Sequence[tuple[float, float]]:
        """Return the interval of each number, in the order of `values`; () without a formula.

        `counts` are the confusion matrices of the groups, (G, classes, classes).
        """
        return ()

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the metrics of the samples with known labels, without a row per sample."""
        sums = predictions.confusion().ravel().astype(float)
        numbers = self.of(sums, classes=predictions.classes)
        return {name: float(number) for name, number in numbers.items()}


def mean_and_classes(name: str, classes: Sequence[str]) -> dict[str, Direction]:
    """Return the names of a metric's mean and of each class, of which more is better."""
    return {name: "max", **{f"{name}/{cls}": "max" for cls in classes}}


class _PerClassMetric(_ConfusionMetric):
    """A metric per class, `name/class`, and their mean over the classes where it is defined."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the mean's name, and one name per class."""
        return mean_and_classes(self.name, classes)

    def ratio(self, counts: Array) -> tuple[Array, Array]:
        """Return numerator and denominator of each class, (..., classes); 0 / 0 is undefined."""
        raise NotImplementedError

    def per_class(self, counts: Array) -> Array:
        """Return the metric of each class, (..., classes), NaN where it is undefined."""
        return divide(*self.ratio(counts))

    def from_confusion(self, counts: Array) -> Sequence[Array]:
        """Return the mean, and then the metric of each class."""
        import numpy as np

        values = self.per_class(counts)
        is_defined = ~np.isnan(values)
        # Added one after another, so that a matrix alone and among others gives the same bits.
        totals = np.cumsum(np.where(is_defined, values, 0.0), axis=-1)[..., -1]
        return [divide(totals, is_defined.sum(axis=-1)), *np.moveaxis(values, -1, 0)]

    def class_limits(self, parts: Array, totals: Array, level: float) -> tuple[Array, Array]:
        """Return the limits of each class, (classes,), from `ratio` of each group."""
        from sightx.plugin import wilson

        return wilson(parts, totals, level=level)

    def limits(self, counts: Array, level: float) -> Sequence[tuple[float, float]]:
        """Return the interval of the mean, which follows from those of the classes, and those."""
        from sightx.plugin import mean_interval

        parts, totals = self.ratio(counts)
        values = self.per_class(counts.sum(axis=0))
        low, high = self.class_limits(parts, totals, level)
        # How many hits a group has more than its samples have on average.
        surplus = parts - totals * divide(parts.sum(axis=0), totals.sum(axis=0).clip(min=1))
        mean = mean_interval(values, (low, high), surplus)
        return [mean, *zip(low, high, strict=True)]


class Accuracy(_ConfusionMetric):
    """Fraction of correct predictions."""

    name = "accuracy"
    other_names = ("acc", "top1", "categorical_accuracy", "sparse_categorical_accuracy")
    rewards_majority = True

    def from_confusion(self, counts: Array) -> Sequence[Array]:
        """Return the accuracy."""
        return [divide(_trace(counts), counts.sum(axis=(-2, -1)))]

    def limits(self, counts: Array, level: float) -> Sequence[tuple[float, float]]:
        """Return Wilson's interval over groups."""
        from sightx.plugin import wilson

        low, high = wilson(_trace(counts), counts.sum(axis=(-2, -1)), level=level)
        return [(float(low), float(high))]


class Precision(_PerClassMetric):
    """Fraction of the predictions of a class that are correct, per class and mean.

    It is 0 for a class that has samples but is never predicted, and NaN for a class that has
    neither samples nor predictions; NaN is left out of the mean.
    """

    name = "precision"
    other_names = ("ppv",)

    def ratio(self, counts: Array) -> tuple[Array, Array]:
        """Return the correct predictions and all predictions of each class."""
        return _diagonal(counts), counts.sum(axis=-2)

    def per_class(self, counts: Array) -> Array:
        """Return the precision of each class, 0 if it has samples but is never predicted."""
        import numpy as np

        hits, predicted = self.ratio(counts)
        is_missed = (predicted == 0) & (counts.sum(axis=-1) > 0)
        return divide(hits, np.where(is_missed, 1, predicted))


class Recall(_PerClassMetric):
    """Fraction of the samples of a class that are predicted correctly, per class and mean.

    It is NaN for a class without samples, which is left out of the mean. The mean is the balanced
    accuracy. For the classes of a test, recall is the sensitivity.
    """

    name = "recall"
    other_names = ("sensitivity", "tpr", "true_positive_rate")

    def ratio(self, counts: Array) -> tuple[Array, Array]:
        """Return the correct predictions and the samples of each class."""
        return _diagonal(counts), counts.sum(axis=-1)


class Specificity(_PerClassMetric):
    """Fraction of the samples of other classes that are not predicted as a class, and mean.

    It is NaN for a class if no sample has another one; NaN is left out of the mean.
    """

    name = "specificity"
    other_names = ("tnr", "true_negative_rate")

    def ratio(self, counts: Array) -> tuple[Array, Array]:
        """Return, of the samples of other classes, those predicted as others, and all."""
        others = counts.sum(axis=(-2, -1))[..., None] - counts.sum(axis=-1)
        return others - counts.sum(axis=-2) + _diagonal(counts), others


class BalancedAccuracy(_ConfusionMetric):
    """Mean recall of the classes that have samples."""

    name = "balanced-accuracy"
    other_names = ("bacc", "bal_acc", "uar")

    def from_confusion(self, counts: Array) -> Sequence[Array]:
        """Return the balanced accuracy."""
        return Recall().from_confusion(counts)[:1]

    def limits(self, counts: Array, level: float) -> Sequence[tuple[float, float]]:
        """Return the interval of the mean recall."""
        return Recall().limits(counts, level)[:1]


class F1(_PerClassMetric):
    """Harmonic mean of precision and recall, per class and mean.

    It is NaN for a class that has neither samples nor predictions; NaN is left out of the mean.
    """

    name = "f1"
    other_names = ("f1_score", "F1Score", "macro_f1")

    def ratio(self, counts: Array) -> tuple[Array, Array]:
        """Return twice the correct predictions, and the samples plus the predictions."""
        return 2 * _diagonal(counts), counts.sum(axis=-1) + counts.sum(axis=-2)

    def class_limits(self, parts: Array, totals: Array, level: float) -> tuple[Array, Array]:
        """Return those of the proportion J of hits among samples and predictions: 2J / (1 + J)."""
        low, high = super().class_limits(parts / 2, totals - parts / 2, level)
        return 2 * low / (1 + low), 2 * high / (1 + high)


class Qwk(_ConfusionMetric):
    """Quadratic weighted kappa: agreement of ordered classes beyond chance.

    1 means full agreement, 0 the agreement of chance (J. Cohen, 1968). It is NaN if all labels and
    predictions are one and the same class, because chance then agrees fully too.
    """

    name = "qwk"
    other_names = ("kappa", "cohen_kappa", "quadratic_weighted_kappa", "quadratic_kappa")
    needs_order = True

    def from_confusion(self, counts: Array) -> Sequence[Array]:
        """Return 1 - sum(d^2 observed) / sum(d^2 expected by chance), d the distance of classes."""
        import numpy as np

        classes = np.arange(counts.shape[-1])
        distances = ((classes[:, None] - classes) ** 2).ravel()
        true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
        samples = counts.sum(axis=(-2, -1))[..., None, None]
        expected = divide(true[..., :, None] * predicted[..., None, :], samples)
        shape = (*counts.shape[:-2], -1)
        observed = (distances * counts.reshape(shape)).sum(axis=-1)
        return [1 - divide(observed, (distances * expected.reshape(shape)).sum(axis=-1))]


class ConfusionMatrix(_ConfusionMetric):
    """Number of samples for each pair of true and predicted class.

    The names are `confusion/true class/predicted class`.
    """

    name = "confusion-matrix"
    other_names = ("confusion", "cm")

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return one name per pair of classes; off the diagonal, lower is better."""
        return {
            f"confusion/{true}/{predicted}": "max" if true == predicted else "min"
            for true in classes
            for predicted in classes
        }

    def from_confusion(self, counts: Array) -> Sequence[Array]:
        """Return the counts, row by row."""
        import numpy as np

        return list(np.moveaxis(counts.reshape(*counts.shape[:-2], -1), -1, 0))


def _matrices(sums: Array, classes: int) -> Array:
    """Return confusion matrices (..., classes, classes) of their counts in a row."""
    return sums.reshape(*sums.shape[:-1], classes, classes)


def _diagonal(counts: Array) -> Array:
    return counts.diagonal(axis1=-2, axis2=-1)


def _trace(counts: Array) -> Array:
    trace: Array = _diagonal(counts).sum(axis=-1)
    return trace


def divide(numerator: Array, denominator: Array) -> Array:
    """Divide elementwise; the result is NaN where the denominator is 0."""
    import numpy as np

    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(denominator.shape, math.nan)
    ratio: Array = np.divide(numerator, denominator, out=out, where=denominator != 0)
    return ratio
