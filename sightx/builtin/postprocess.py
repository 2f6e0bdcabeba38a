"""Rules fitted on the validation side that make decisions or probabilities better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightx.plugin import Postprocess, Problem, SpecError

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import Predictions

    Array = np.ndarray[Any, Any]

RESOLUTION = 1e-6  # expected grades closer than this differ by rounding alone
FLAT = 1e-20  # a curvature below this is rounding: the loss has no slope to follow
COLDEST, HOTTEST = 0.01, 100.0  # the temperatures looked at


class CutPoints(Postprocess):
    """Cut the expected grade where quadratic weighted kappa is highest.

    The expected grade is the sum of probability times grade. Of all increasing cuts that the
    validation side can tell apart, these are the best; where nothing beats them, they stay at
    0.5, 1.5, ...
    """

    name = "cut-points"
    needs_order = True

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the cuts; SpecError where the classes are not ordered."""
        import numpy as np

        expected = _expected_grade(validation)
        known = validation.labels >= 0
        start = np.arange(len(validation.classes) - 1) + 0.5
        cuts = _best_cuts(expected[known], validation.labels[known], start)
        return {"cuts": cuts.tolist()}

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Decide for the number of cuts that the expected grade reaches."""
        import numpy as np

        return predictions.with_decisions(np.digitize(_expected_grade(predictions), state["cuts"]))


class Temperature(Postprocess):
    """Divide log-probabilities by one temperature, so that they mean what they say.

    The temperature is the one under which the validation labels are most likely (Guo et al.,
    2017), between 0.01 and 100; decisions stay.
    """

    name = "temperature"

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the temperature; 1 where no label is known."""
        known = validation.labels >= 0
        if not known.any():
            return {"temperature": 1.0}
        logs = _log_probabilities(validation)[known]
        return {"temperature": 1.0 / _likeliest_scale(logs, validation.labels[known])}

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Return the predictions with probabilities at the temperature."""
        scaled = _softmax(_log_probabilities(predictions) / state["temperature"])
        return predictions.with_probabilities(scaled.astype(predictions.probabilities.dtype))


def _expected_grade(predictions: Predictions) -> Array:
    """Return the mean grade under each sample's probabilities, (N,)."""
    import numpy as np

    if not predictions.ordered:
        message = "cut-points needs ordered classes, and those of this dataset are not"
        hint = "remove it, or set `ordered = true` in the dataset if the classes are grades"
        raise SpecError(Problem("not-ordered", message, hint, path="postprocess.cut-points"))
    grades: Array = np.arange(len(predictions.classes), dtype=np.float64)
    return predictions.probabilities.astype(np.float64) @ grades


def _best_cuts(expected: Array, labels: Array, start: Array) -> Array:
    """Return the increasing cuts of the highest kappa, or `start` if none is above its own.

    With y the labels, d the grades given and m the mean label, kappa is
    2 sum (y - m) d / (sum y^2 + sum d^2 - 2 m sum d). A cut that n samples lie above, the k-th
    from below, adds n to sum d and (2k - 1) n to sum d^2: both halves of the fraction are sums
    over cuts. So the cuts that maximise `top - kappa * bottom` follow from one pass over the
    samples, and repeating that with the kappa they reach ends at the maximum (Dinkelbach, 1967).
    """
    import numpy as np

    if len(start) == 0 or len(labels) == 0 or (labels == labels[0]).all():
        return start  # no cut changes kappa
    order = np.argsort(expected, kind="stable")
    expected, mean = expected[order], labels.mean()
    edges = [0, *(np.flatnonzero(np.diff(expected) > RESOLUTION) + 1), len(labels)]
    above: Array = np.append(np.cumsum((labels[order] - mean)[::-1])[::-1], 0.0)
    counts: Array = len(labels) - np.arange(len(labels) + 1)
    top = 2 * above  # what a cut below the i-th sample adds to the numerator
    bottom = counts * (2 * np.arange(1, len(start) + 1)[:, None] - 1 - 2 * mean)
    squares, each = np.square(labels).sum(), np.arange(len(start))

    def kappa(cuts: Array) -> float:
        return float(top[cuts].sum() / (squares + bottom[each, cuts].sum()))

    best, reached = None, kappa(np.searchsorted(expected, start))
    while True:
        cuts = np.take(edges, _increasing_argmax((top - reached * bottom)[:, edges]))
        if kappa(cuts) <= reached:
            return start if best is None else _midway(best, expected, len(start))
        best, reached = cuts, kappa(cuts)


def _increasing_argmax(gains: Array) -> Array:
    """Return one position a row, none left of the one before, whose gains (K, P) sum highest."""
    import numpy as np

    totals = [gains[0]]
    for row in gains[1:]:
        totals.append(row + np.maximum.accumulate(totals[-1]))
    chosen, end = [], gains.shape[1]
    for total in reversed(totals):
        chosen.append(int(np.argmax(total[:end])))
        end = chosen[-1] + 1
    return np.array(chosen[::-1])


def _midway(positions: Array, expected: Array, highest: int) -> Array:
    """Return cuts amid the gaps below the given samples; cuts that share a gap divide it evenly.

    The outermost gaps end half a grade beyond the lowest and the highest grade.
    """
    import numpy as np

    padded = np.concatenate([[-0.5], expected, [highest + 0.5]])
    first, sharing = np.unique(positions, return_counts=True)
    return np.concatenate(
        [
            np.linspace(padded[i], padded[i + 1], n + 2)[1:-1]
            for i, n in zip(first, sharing, strict=True)
        ]
    )


def _log_probabilities(predictions: Predictions) -> Array:
    import numpy as np

    floor = np.finfo(np.float32).tiny
    logs: Array = np.log(np.maximum(predictions.probabilities.astype(np.float64), floor))
    return logs


def _softmax(logs: Array) -> Array:
    import numpy as np

    weights: Array = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _likeliest_scale(logs: Array, labels: Array) -> float:
    """Return the factor on log-probabilities (N, C) that makes the labels most likely.

    The loss is convex in the factor: Newton's step, and a bisection where it leaves the bracket.
    """
    import numpy as np

    low, high, scale = 1 / HOTTEST, 1 / COLDEST, 1.0
    truth = logs[np.arange(len(labels)), labels].mean()
    for _ in range(100):
        shares = _softmax(scale * logs)
        means = (shares * logs).sum(axis=1, keepdims=True)
        slope = float(means.mean() - truth)
        curvature = float((shares * (logs - means) ** 2).sum(axis=1).mean())
        if curvature < FLAT:
            break
        low, high = (low, scale) if slope > 0 else (scale, high)
        newton = scale - slope / curvature
        last, scale = scale, newton if low < newton < high else float(np.sqrt(low * high))
        if abs(scale - last) <= 1e-12 * last:
            break
    return scale
