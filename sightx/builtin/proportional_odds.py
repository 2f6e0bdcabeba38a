"""Probabilities of grades from one number per sample: the proportional-odds model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightx.plugin import Postprocess

from .postprocess import expected_grades

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sightx.plugin import Predictions

    Array = np.ndarray[Any, Any]

_ITERATIONS, _TOLERANCE = 100, 1e-10
_MIN_PROBABILITY = 1e-12


class ProportionalOdds(Postprocess):
    """Give each grade the probability between two cut points of the expected grade.

    P(grade > k) is the sigmoid of slope x e - intercept_k, for the expected grade e = sum_c p_c c:
    it is 1/2 at the cut point intercept_k / slope (P. McCullagh, 1980). Slope, 0 or more, and
    intercepts have the highest likelihood on the validation split and one more sample, which counts
    as every grade at every e alike: so a grade without samples keeps a probability, and separable
    grades have a finite slope. Decisions do not change.
    """

    name = "proportional-odds"
    needs_order = True

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the slope and the intercepts. Raise SpecError if the classes are not ordered."""
        expected = expected_grades(validation, self.name)
        known = validation.labels >= 0
        slope, intercepts = _fit(expected[known], validation.labels[known], len(validation.classes))
        return {"slope": slope, "intercepts": intercepts.tolist()}

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Return the predictions with the probabilities of the model."""
        import numpy as np

        expected = expected_grades(predictions, self.name)[:, None]
        logits = state["slope"] * expected - np.array(state["intercepts"])
        probabilities = -np.diff(_sigmoid(logits), axis=1, prepend=1.0, append=0.0)
        return predictions.with_probabilities(probabilities.astype(predictions.probabilities.dtype))

    def calibrate(self, probabilities: Tensor, state: Mapping[str, Any]) -> Tensor:
        """Return the probabilities of the model (B, classes)."""
        import torch
        from torch.nn.functional import pad

        grades = torch.arange(probabilities.shape[1], device=probabilities.device)
        expected = (probabilities * grades).sum(dim=1, keepdim=True)
        intercepts = torch.tensor(state["intercepts"], device=probabilities.device)
        above = (float(state["slope"]) * expected - intercepts).sigmoid()
        return pad(above, (1, 0), value=1.0) - pad(above, (0, 1))


def _fit(expected: Array, labels: Array, classes: int) -> tuple[float, Array]:
    """Return the slope and the intercepts (classes - 1,) by Newton's method.

    The log-likelihood is concave (J. W. Pratt, 1981); a step is halved until it increases. If the
    slope would be negative it is 0, and the probabilities are the grades' shares.
    """
    import numpy as np

    grades = np.arange(classes)
    e = np.concatenate([expected, np.repeat(grades, classes)])
    y = np.concatenate([labels, np.tile(grades, classes)])
    weights = np.concatenate([np.ones(len(labels)), np.full(classes**2, classes**-2.0)])
    parameters = np.concatenate([[1.0], grades[1:] - 0.5])  # the slope, then the intercepts
    value, gradient, hessian = _likelihood(parameters, e, y, weights)
    for _ in range(_ITERATIONS):
        step = np.linalg.solve(hessian, gradient)
        while True:
            candidate = parameters - step
            new, new_gradient, new_hessian = _likelihood(candidate, e, y, weights)
            if new >= value or abs(step).max() < _TOLERANCE:
                break
            step = step / 2
        gain, parameters, value = new - value, candidate, new
        gradient, hessian = new_gradient, new_hessian
        if gain < _TOLERANCE * len(e):
            break
    if parameters[0] < 0:
        shares = np.bincount(y, weights, classes).cumsum()[:-1] / weights.sum()
        return 0.0, np.log(shares / (1 - shares))
    return float(parameters[0]), parameters[1:]


def _likelihood(
    parameters: Array, e: Array, y: Array, weights: Array
) -> tuple[float, Array, Array]:
    """Return the weighted log-likelihood, its gradient and its Hessian; -infinity if disordered.

    A sample's probability is F(u) - F(v): u and v are the logits of reaching its grade, and of
    reaching the next one.
    """
    import numpy as np

    slope, intercepts = parameters[0], parameters[1:]
    count = len(parameters)
    if (np.diff(intercepts) <= 0).any():
        return -np.inf, np.zeros(count), np.eye(count)
    limits = np.concatenate([[-np.inf], intercepts, [np.inf]])
    upper, lower = (_sigmoid(slope * e - limits[y + shift]) for shift in (0, 1))
    p = np.maximum(upper - lower, _MIN_PROBABILITY)
    # First and second derivatives of the sigmoid, and those of u and v by the parameters.
    d_upper, d_lower = upper * (1 - upper), lower * (1 - lower)
    dd_upper, dd_lower = d_upper * (1 - 2 * upper), d_lower * (1 - 2 * lower)
    columns = -np.eye(count + 1)[:, :count]
    columns[0] = columns[-1] = 0  # the outermost limits are fixed
    x_upper, x_lower = (columns[y + shift].copy() for shift in (0, 1))
    x_upper[:, 0], x_lower[:, 0] = e, e
    slopes = (d_upper[:, None] * x_upper - d_lower[:, None] * x_lower) / p[:, None]
    hessian = (x_upper * (weights * dd_upper / p)[:, None]).T @ x_upper
    hessian -= (x_lower * (weights * dd_lower / p)[:, None]).T @ x_lower
    hessian -= (slopes * weights[:, None]).T @ slopes
    return float(weights @ np.log(p)), weights @ slopes, hessian


def _sigmoid(x: Array) -> Array:
    import numpy as np

    result: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return result
