"""Figures of merit, computed by scikit-learn over every class that the dataset declares.

Samples whose label is unknown are left out; without any sample every figure is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sightx import Metric

if TYPE_CHECKING:
    import numpy as np

    from sightx import Predictions

    Array = np.ndarray[Any, Any]


class _Figures(Metric):
    """Figures of the samples whose label is known, in the order of their names."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Literal["max", "min"]]:
        """Name one figure after the metric; more is better."""
        return {self.name: "max"}

    def figures(self, labels: Array, decisions: Array, classes: range) -> Sequence[float]:
        """Return the figures of at least one sample; `labels` and `decisions` are (N,)."""
        raise NotImplementedError

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the figures of the samples whose label is known."""
        names = self.values(predictions.classes)
        known = predictions.labels >= 0
        if not known.any():
            return dict.fromkeys(names, math.nan)
        labels, decisions = predictions.labels[known], predictions.decisions[known]
        figures = self.figures(labels, decisions, range(len(predictions.classes)))
        return {name: float(figure) for name, figure in zip(names, figures, strict=True)}


class _PerClass(_Figures):
    """A figure of each class, `name/class`, and first their mean: classes without one left out."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Literal["max", "min"]]:
        """Name the mean after the metric, and each class's figure after both."""
        return {self.name: "max", **{f"{self.name}/{each}": "max" for each in classes}}

    def each(self, labels: Array, decisions: Array, classes: range) -> Array:
        """Return a figure a class, NaN where it is not defined."""
        raise NotImplementedError

    def figures(self, labels: Array, decisions: Array, classes: range) -> Sequence[float]:
        """Return the mean, then the figure of each class."""
        import numpy as np

        each = self.each(labels, decisions, classes)
        return [np.nanmean(each) if np.isfinite(each).any() else math.nan, *each]


class Accuracy(_Figures):
    """The share of samples that are decided rightly."""

    name = "accuracy"

    def figures(self, labels: Array, decisions: Array, classes: range) -> Sequence[float]:
        """Return the accuracy."""
        from sklearn.metrics import accuracy_score

        return [accuracy_score(labels, decisions)]


class BalancedAccuracy(_Figures):
    """The mean recall of the classes that have samples."""

    name = "balanced-accuracy"

    def figures(self, labels: Array, decisions: Array, classes: range) -> Sequence[float]:
        """Return the balanced accuracy."""
        return Recall().figures(labels, decisions, classes)[:1]


class Precision(_PerClass):
    """The share of a class's decisions that are right, per class and their mean.

    A class that has samples and is never decided for counts as 0; one that is neither present nor
    decided for is NaN and left out of the mean.
    """

    name = "precision"

    def each(self, labels: Array, decisions: Array, classes: range) -> Array:
        """Return the precision of each class."""
        import numpy as np
        from sklearn.metrics import precision_score

        scores: Array = precision_score(
            labels, decisions, labels=classes, average=None, zero_division=0.0
        )
        seen = np.isin(classes, labels) | np.isin(classes, decisions)
        return np.where(seen, scores, math.nan)


class Recall(_PerClass):
    """The share of a class's samples that are found, per class and their mean.

    A class without samples is NaN and left out of the mean, which is the balanced accuracy.
    """

    name = "recall"

    def each(self, labels: Array, decisions: Array, classes: range) -> Array:
        """Return the recall of each class."""
        from sklearn.metrics import recall_score

        scores: Array = recall_score(
            labels, decisions, labels=classes, average=None, zero_division=math.nan
        )
        return scores


class F1(_PerClass):
    """The harmonic mean of precision and recall, per class and their mean.

    A class that is neither present nor decided for is NaN and left out of the mean.
    """

    name = "f1"

    def each(self, labels: Array, decisions: Array, classes: range) -> Array:
        """Return the F1 of each class."""
        from sklearn.metrics import f1_score

        scores: Array = f1_score(
            labels, decisions, labels=classes, average=None, zero_division=math.nan
        )
        return scores


class Qwk(_Figures):
    """Quadratic weighted kappa: agreement of grades beyond chance.

    1 is full agreement, 0 what chance gives (Cohen, 1968). NaN where every label and every
    decision is one and the same class: chance then agrees fully too.
    """

    name = "qwk"
    needs_order = True

    def figures(self, labels: Array, decisions: Array, classes: range) -> Sequence[float]:
        """Return the kappa."""
        from sklearn.metrics import cohen_kappa_score

        if (labels == labels[0]).all() and (decisions == labels[0]).all():
            return [math.nan]
        return [cohen_kappa_score(labels, decisions, labels=classes, weights="quadratic")]


class ConfusionMatrix(_Figures):
    """The number of samples of each true class that got each decision.

    Figures are named `confusion/true class/decided class`.
    """

    name = "confusion-matrix"

    def values(self, classes: Sequence[str]) -> Mapping[str, Literal["max", "min"]]:
        """Name a count for each pair of classes; those beside the diagonal are errors."""
        return {
            f"confusion/{true}/{decided}": "max" if true == decided else "min"
            for true in classes
            for decided in classes
        }

    def figures(self, labels: Array, decisions: Array, classes: range) -> Sequence[float]:
        """Return the counts, row by row."""
        import numpy as np

        cells = labels * len(classes) + decisions
        return [float(count) for count in np.bincount(cells, minlength=len(classes) ** 2)]
