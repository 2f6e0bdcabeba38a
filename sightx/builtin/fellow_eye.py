"""Predictions that the other images of a patient have changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightx.plugin import Postprocess

from .postprocess import expected_grades

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import Predictions

    Array = np.ndarray[Any, Any]


class FellowEye(Postprocess):
    """Shrink the prediction for an eye towards the prediction for the patient's other eye.

    The probabilities become (1 - weight) x own + weight x other, and so does the expected grade;
    the decision is the nearest grade. `cut-points` after it fits better limits. The weight is
    c / (b + c), from 0 to 1/2, of the least-squares fit a + b x own + c x other of the grades of
    validation. "Other" is the mean over all other images of the group; an image without any, such
    as one that is predicted alone, keeps its prediction. No label of another image is used.
    """

    name = "fellow-eye"
    needs_order = True
    combines_groups = True

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the weight; 0 if no validation sample has another one in its group."""
        import numpy as np

        own = expected_grades(validation, self.name)
        other = _mean_of_others(validation, own[:, None])[:, 0]
        rows = (validation.labels >= 0) & ~np.isnan(other)
        design = np.stack([np.ones(rows.sum()), own[rows], other[rows]], axis=1)
        if np.linalg.matrix_rank(design) < design.shape[1]:
            return {"weight": 0.0}
        _, b, c = np.linalg.lstsq(design, validation.labels[rows].astype(float), rcond=None)[0]
        return {"weight": float(np.clip(c / (b + c), 0, 0.5)) if c > 0 and b + c > 0 else 0.0}

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Return the predictions with the probabilities of both eyes."""
        import numpy as np

        own = predictions.probabilities.astype(np.float64)
        other = _mean_of_others(predictions, own)
        is_alone = np.isnan(other[:, :1])
        mixed = np.where(is_alone, own, (1 - state["weight"]) * own + state["weight"] * other)
        changed = predictions.with_probabilities(mixed.astype(predictions.probabilities.dtype))
        nearest = np.rint(expected_grades(changed, self.name))
        return changed.with_decisions(np.where(is_alone[:, 0], predictions.decisions, nearest))


def _mean_of_others(predictions: Predictions, values: Array) -> Array:
    """Return the means of values (N, S), 0 or more, over the others of each group; NaN if none."""
    import numpy as np

    groups = predictions.group_positions
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, groups, values)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        means = (sums[groups] - values) / (counts[groups] - 1)[:, None]
    result: Array = np.maximum(means, 0)  # a difference of 0 may round to less
    return result
