"""Changes of decisions or probabilities that are fitted on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightx.plugin import Postprocess, Problem, SpecError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sightx.plugin import Predictions

    Array = np.ndarray[Any, Any]

MIN_GAP = 1e-6  # Smaller differences of expected grades are rounding errors.
MIN_CURVATURE = 1e-20  # A smaller curvature is a rounding error: the loss is flat.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0


class CutPoints(Postprocess):
    """Round the expected grade at the cut points with the highest quadratic weighted kappa.

    The expected grade is sum_c p_c c, and the decision is the number of cut points that it reaches.
    The cut points are the exact optimum on the validation split; they are 0.5, 1.5, ... if nothing
    is better.
    """

    name = "cut-points"
    other_names = ("threshold", "thresholds", "OptimizedRounder")
    needs_order = True

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the cut points. Raise SpecError if the classes are not ordered."""
        import numpy as np

        expected = expected_grades(validation, self.name)
        known = validation.labels >= 0
        defaults = np.arange(len(validation.classes) - 1) + 0.5
        cuts = _best_cuts(expected[known], validation.labels[known], defaults)
        return {"cuts": cuts.tolist()}

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Decide for the number of cut points that the expected grade reaches."""
        import numpy as np

        return predictions.with_decisions(
            np.digitize(expected_grades(predictions, self.name), state["cuts"])
        )


class Temperature(Postprocess):
    """Calibrate probabilities: divide their logarithms by one temperature.

    The temperature, between 0.01 and 100, maximises the likelihood of the validation labels
    (C. Guo et al., ICML 2017). Decisions do not change.
    """

    name = "temperature"
    other_names = ("calibration", "platt", "TemperatureScaling")

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the temperature; 1 if no label is known."""
        known = validation.labels >= 0
        if not known.any():
            return {"temperature": 1.0}
        logits = _log_probabilities(validation)[known]
        return {"temperature": 1.0 / _fit_scale(logits, validation.labels[known])}

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Return the predictions with calibrated probabilities."""
        scaled = _softmax(_log_probabilities(predictions) / state["temperature"])
        return predictions.with_probabilities(scaled.astype(predictions.probabilities.dtype))

    def calibrate(self, probabilities: Tensor, state: Mapping[str, Any]) -> Tensor:
        """Return calibrated probabilities (B, classes)."""
        import torch

        floor = torch.finfo(torch.float32).tiny
        logits = probabilities.clamp_min(floor).log()
        return (logits / float(state["temperature"])).softmax(dim=1)


def expected_grades(predictions: Predictions, name: str) -> Array:
    """Return sum_c p_c c of each sample, float64 (N,).

    Raises SpecError if the classes are not ordered; `name` is the component that asks.
    """
    import numpy as np

    if not predictions.ordered:
        message = f"{name} needs ordered classes, and the classes of this dataset are not ordered"
        hint = "remove it, or set `ordered = true` in the dataset if the classes are grades"
        raise SpecError(Problem("not-ordered", message, hint, path=f"postprocess.{name}"))
    grades: Array = np.arange(len(predictions.classes), dtype=np.float64)
    return predictions.probabilities.astype(np.float64) @ grades


def _best_cuts(expected: Array, labels: Array, defaults: Array) -> Array:
    """Return the increasing cut points with the highest kappa, or `defaults` if none is better.

    With labels y, decisions d and the mean label m, kappa is
    2 sum (y - m) d / (sum y^2 + sum d^2 - 2 m sum d). If n samples are above the k-th cut point,
    it adds n to sum d and (2k - 1) n to sum d^2, so numerator and denominator are sums over cut
    points. The cut points that maximise numerator - kappa * denominator follow from one pass over
    the samples; repeating this with their kappa converges to the maximum (W. Dinkelbach, 1967).

    Args:
        expected: Expected grades, float64 (N,).
        labels: Classes, int64 (N,).
        defaults: Cut points, float64 (classes - 1,).
    """
    import numpy as np

    if len(defaults) == 0 or len(labels) == 0 or (labels == labels[0]).all():
        return defaults  # No cut point changes kappa.
    order = np.argsort(expected, kind="stable")
    expected, mean = expected[order], labels.mean()
    edges = [0, *(np.flatnonzero(np.diff(expected) > MIN_GAP) + 1), len(labels)]
    above: Array = np.append(np.cumsum((labels[order] - mean)[::-1])[::-1], 0.0)
    counts: Array = len(labels) - np.arange(len(labels) + 1)
    # What a cut point below the i-th sample adds to the numerator and to the denominator.
    numerators = 2 * above
    denominators = counts * (2 * np.arange(1, len(defaults) + 1)[:, None] - 1 - 2 * mean)
    squares, rows = np.square(labels).sum(), np.arange(len(defaults))

    def kappa(cuts: Array) -> float:
        return float(numerators[cuts].sum() / (squares + denominators[rows, cuts].sum()))

    best, best_kappa = None, kappa(np.searchsorted(expected, defaults))
    while True:
        gains = (numerators - best_kappa * denominators)[:, edges]
        cuts = np.take(edges, _increasing_argmax(gains))
        if kappa(cuts) <= best_kappa:
            return defaults if best is None else _cut_values(best, expected, len(defaults))
        best, best_kappa = cuts, kappa(cuts)


def _increasing_argmax(gains: Array) -> Array:
    """Return a non-decreasing position for each row of gains (K, P), with the highest sum."""
    import numpy as np

    totals = [gains[0]]
    for row in gains[1:]:
        totals.append(row + np.maximum.accumulate(totals[-1]))
    positions, end = [], gains.shape[1]
    for total in reversed(totals):
        positions.append(int(np.argmax(total[:end])))
        end = positions[-1] + 1
    return np.array(positions[::-1])


def _cut_values(positions: Array, expected: Array, highest: int) -> Array:
    """Return the middle of the gap below each position; cut points in one gap divide it evenly.

    The outermost gaps end half a grade below grade 0 and above the highest grade.
    """
    import numpy as np

    padded = np.concatenate([[-0.5], expected, [highest + 0.5]])
    gaps = zip(*np.unique(positions, return_counts=True), strict=True)
    return np.concatenate([np.linspace(padded[i], padded[i + 1], n + 2)[1:-1] for i, n in gaps])


def _log_probabilities(predictions: Predictions) -> Array:
    import numpy as np

    floor = np.finfo(np.float32).tiny
    logits: Array = np.log(np.maximum(predictions.probabilities.astype(np.float64), floor))
    return logits


def _softmax(logits: Array) -> Array:
    import numpy as np

    exponentials: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def _fit_scale(logits: Array, labels: Array) -> float:
    """Return the factor of logits (N, classes) that maximises the likelihood of labels (N,).

    The negative log-likelihood is convex in the factor. Newton's method is used, and bisection if
    a step leaves the bracket.
    """
    import numpy as np

    low, high, scale = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE, 1.0
    target = logits[np.arange(len(labels)), labels].mean()
    for _ in range(100):
        probabilities = _softmax(scale * logits)
        means = (probabilities * logits).sum(axis=1, keepdims=True)
        slope = float(means.mean() - target)
        curvature = float((probabilities * (logits - means) ** 2).sum(axis=1).mean())
        if curvature < MIN_CURVATURE:
            break
        low, high = (low, scale) if slope > 0 else (scale, high)
        newton = scale - slope / curvature
        previous, scale = scale, newton if low < newton < high else float(np.sqrt(low * high))
        if abs(scale - previous) <= 1e-12 * previous:
            break
    return scale
