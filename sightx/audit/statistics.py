"""Statistics of an audit: plain formulas that need nothing but numpy."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from sightx.evaluation.formulas import wilson_centre

Array = np.ndarray[Any, Any]


def expected_half_width(groups: int, level: float = 0.95) -> float:
    """Return half the width of Wilson's interval for a proportion of one half, of `groups` groups.

    That is the widest interval of a recall whose samples agree within a group.
    """
    _, half_width = wilson_centre(0.5, groups, level)
    return float(half_width)


def chi_square_p(table: Array) -> float:
    """Return the p value of independence of the rows and columns of a table of counts.

    Pearson's statistic, with the cube-root approximation of its distribution (E. B. Wilson and
    M. M. Hilferty, 1931). It is 1 if there is nothing to compare.
    """
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0].astype(float)
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    if freedom < 1:
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    variance = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - variance)) / math.sqrt(variance)
    return 1 - NormalDist().cdf(z)


def total_variation(left: Array, right: Array) -> float:
    """Return half the sum of the differences of two distributions, given as counts: 0 to 1."""
    return float(np.abs(left / left.sum() - right / right.sum()).sum() / 2)


def robust_z(values: Array) -> Array:
    """Return (x - median) / (1.4826 median absolute deviation); 0 if that is 0.

    Above 3.5 a value is usually called an outlier (B. Iglewicz and D. C. Hoaglin, 1993).
    """
    distances = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(distances))
    scores: Array = distances / spread if spread > 0 else np.zeros(len(values))
    return scores


def auc_error(positives: int, negatives: int) -> float:
    """Return the standard error of the AUC of scores that are independent of the labels.

    (H. B. Mann and D. R. Whitney, 1947.)
    """
    return math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
