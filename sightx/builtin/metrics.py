"""Figures of merit, each a function of the counts of true and decided classes.

Samples whose label is unknown are left out; without any sample every figure is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sightx.plugin import Metric

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import Predictions

    Array = np.ndarray[Any, Any]


class _Figures(Metric):
    """Figures of the samples whose label is known, in the order of their names."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Literal["max", "min"]]:
        """Name one figure after the metric; more is better."""
        return {self.name: "max"}

    def figures(self, counts: Array) -> Sequence[float]:
        """Return the figures; `counts` (true class, decided class) are not all 0."""
        raise NotImplementedError

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the figures of the samples whose label is known."""
        names = self.values(predictions.classes)
        counts = predictions.confusion()
        if not counts.any():
            return dict.fromkeys(names, math.nan)
        return dict(zip(names, map(float, self.figures(counts)), strict=True))


class _PerClass(_Figures):
    """A figure of each class, `name/class`, and first their mean: classes without one left out."""

    def values(self, classes: Sequence[str]) -> Mapping[str, Literal["max", "min"]]:
        """Name the mean after the metric, and each class's figure after both."""
        return {self.name: "max", **{f"{self.name}/{each}": "max" for each in classes}}

    def each(self, hits: Array, present: Array, decided: Array) -> Array:
        """Return a figure a class, NaN where it is not defined; all arguments are counts (K,)."""
        raise NotImplementedError

    def figures(self, counts: Array) -> Sequence[float]:
        """Return the mean, then the figure of each class."""
        each = self.each(counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0))
        defined = [figure for figure in each if not math.isnan(figure)]
        return [sum(defined) / len(defined) if defined else math.nan, *each]


class Accuracy(_Figures):
    """The share of samples that are decided rightly."""

    name = "accuracy"

    def figures(self, counts: Array) -> Sequence[float]:
        """Return the accuracy."""
        return [counts.trace() / counts.sum()]


class Precision(_PerClass):
    """The share of a class's decisions that are right, per class and their mean.

    A class that has samples and is never decided for counts as 0; one that is neither present nor
    decided for is NaN and left out of the mean.
    """

    name = "precision"

    def each(self, hits: Array, present: Array, decided: Array) -> Array:
        """Return the precision of each class."""
        import numpy as np

        return _ratio(hits, np.where(present > 0, decided.clip(min=1), decided))


class Recall(_PerClass):
    """The share of a class's samples that are found, per class and their mean.

    A class without samples is NaN and left out of the mean, which is the balanced accuracy.
    """

    name = "recall"

    def each(self, hits: Array, present: Array, decided: Array) -> Array:
        """Return the recall of each class."""
        return _ratio(hits, present)


class BalancedAccuracy(_Figures):
    """The mean recall of the classes that have samples."""

    name = "balanced-accuracy"

    def figures(self, counts: Array) -> Sequence[float]:
        """Return the balanced accuracy."""
        return Recall().figures(counts)[:1]


class F1(_PerClass):
    """The harmonic mean of precision and recall, per class and their mean.

    A class that is neither present nor decided for is NaN and left out of the mean.
    """

    name = "f1"

    def each(self, hits: Array, present: Array, decided: Array) -> Array:
        """Return the F1 of each class."""
        return _ratio(2 * hits, present + decided)


class Qwk(_Figures):
    """Quadratic weighted kappa: agreement of grades beyond chance.

    1 is full agreement, 0 what chance gives (Cohen, 1968). NaN where every label and every
    decision is one and the same class: chance then agrees fully too.
    """

    name = "qwk"
    needs_order = True

    def figures(self, counts: Array) -> Sequence[float]:
        """Return the kappa: 1 less squared distances found over those that chance gives."""
        import numpy as np

        grades = np.arange(len(counts))
        squares = (grades[:, None] - grades) ** 2
        chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
        return [1 - float(_ratio((squares * counts).sum(), (squares * chance).sum()))]


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

    def figures(self, counts: Array) -> Sequence[float]:
        """Return the counts, row by row."""
        return [float(count) for count in counts.ravel()]


def _ratio(above: Array, below: Array) -> Array:
    """Return a quotient, NaN where the divisor is 0."""
    import numpy as np

    nowhere = np.full(np.shape(below), math.nan)
    quotient: Array = np.divide(above, below, out=nowhere, where=below != 0)
    return quotient
