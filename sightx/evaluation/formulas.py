"""Confidence intervals by formulas, where the percentiles of a bootstrap are too narrow.

Draws of groups know only the outcomes of the groups there are. If two patients have a class, and
both are recognised, every draw has a recall of 1. These intervals use how few the groups are, and
respect that samples of one group are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from sightx.evaluation.roc import roc_auc_influence

Array = np.ndarray[Any, Any]


def wilson(parts: Array, totals: Array, *, level: float = 0.95) -> tuple[Array, Array]:
    """Return the limits of Wilson's interval of proportions, with effective numbers of samples.

    `parts` and `totals` (G,), or (G, C) for C proportions, are the samples of each group that
    count, and all of them. The number of samples is divided by the design effect: the variance of
    the proportion over groups relative to that of independent samples, at least 1 (E. B. Wilson,
    1927; J. N. K. Rao and A. J. Scott, 1992). If all samples or none count, the variance is 0, and
    it is divided by the mean size of a group instead. Without samples nothing is known: 0 and 1.
    """
    groups, samples = (totals > 0).sum(axis=0), totals.sum(axis=0)
    share = parts.sum(axis=0) / np.maximum(samples, 1)
    deviations = ((parts - share * totals) ** 2).sum(axis=0)
    variance = groups / np.maximum(groups - 1, 1) * deviations / np.maximum(samples, 1) ** 2
    independent = share * (1 - share) / np.maximum(samples, 1)
    size = samples / np.maximum(groups, 1)
    is_known = (groups > 1) & (independent > 0)
    effect = np.where(is_known, variance / np.where(is_known, independent, 1), size)
    centre, half = wilson_centre(share, np.maximum(samples, 1) / np.maximum(effect, 1), level)
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, 1)
    return np.where(samples > 0, low, 0.0), np.where(samples > 0, high, 1.0)


def wilson_centre(share: Any, number: Any, level: float = 0.95) -> tuple[Any, Any]:
    """Return the centre of Wilson's interval, and half its width, elementwise.

    `share` is a proportion of `number` independent samples (E. B. Wilson, 1927).
    """
    return _score_interval(share, number, NormalDist().inv_cdf((1 + level) / 2))


def _score_interval(share: Any, number: Any, quantile: float) -> tuple[Any, Any]:
    scale = 1 + quantile**2 / number
    centre = (share + quantile**2 / (2 * number)) / scale
    half = quantile / scale * np.sqrt(share * (1 - share) / number + (quantile / number) ** 2 / 4)
    return centre, half


def mean_interval(
    values: Array, limits: tuple[Array, Array], influence: Array
) -> tuple[float, float]:
    """Return the interval of the mean of some numbers from the intervals of each.

    The squared distances to the limits add up as variances do, and those of two numbers with their
    correlation (G. Y. Zou and A. Donner, Statistics in Medicine 27, 2008).

    Args:
        values: The numbers (C,); NaN is left out of the mean.
        limits: The lower and the upper limit of each, (C,).
        influence: By how much each group moves each number, (G, C), up to a factor per number.
    """
    defined = np.flatnonzero(~np.isnan(values))
    if not len(defined):
        return math.nan, math.nan
    mean, products = float(values[defined].mean()), influence.T @ influence
    norms = np.sqrt(products.diagonal().clip(min=np.finfo(float).tiny))
    correlation = (products / norms / norms[:, None])[np.ix_(defined, defined)]
    np.fill_diagonal(correlation, 1)
    below, above = (np.abs(values - limit)[defined] for limit in limits)
    down, up = (math.sqrt(max(d @ correlation @ d, 0.0)) / len(d) for d in (below, above))
    return mean - down, mean + up


class AreaInterval(NamedTuple):
    """Limits of an area under the ROC curve, and by how much each group moves it, (G,)."""

    low: float
    high: float
    influence: Array


def roc_auc_interval(
    is_positive: Array, scores: Array, groups: Array, *, level: float = 0.95
) -> AreaInterval:
    """Return the interval of the area under the ROC curve over groups; 0 and 1 if it is undefined.

    It is Wilson's, with the number of samples that a proportion with the variance of the area
    (`roc_auc_influence`) has, and with the quantile of Student's t of the number of groups of the
    rarer sort. An area whose variance is 0 or unknown counts those groups.

    Args:
        is_positive: Whether a sample is positive, bool (N,).
        scores: The scores (N,).
        groups: Position of each sample's group, int (N,).
    """
    few = min(len(np.unique(groups[part])) for part in (is_positive, ~is_positive))
    if not few:
        return AreaInterval(0.0, 1.0, np.zeros(int(groups.max(initial=-1)) + 1))
    area, variance, influence = roc_auc_influence(is_positive, scores, groups)
    spread = area * (1 - area)
    number = spread / variance if few > 1 and variance > 0 and spread > 0 else few
    centre, half = _score_interval(area, number, t_quantile((1 + level) / 2, max(few - 1, 1)))
    return AreaInterval(max(float(centre - half), 0.0), min(float(centre + half), 1.0), influence)


def jackknife_interval(
    number_of: Callable[[Array], Array], sums: Array, *, level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of a number of sums, from its values without each group.

    `number_of` maps sums (..., S) to numbers (...), and `sums` (G, S) are those of each group. It
    is the number, plus or minus its standard error times a quantile of Student's t (B. Efron and C.
    Stein, 1981). Draws of groups repeat some of them, which a number of bins takes for an error.
    """
    total, groups = sums.sum(axis=0), len(sums)
    without = number_of(total - sums)
    if groups < 2 or not np.isfinite(without).all():
        return math.nan, math.nan
    error = math.sqrt((groups - 1) / groups * float(((without - without.mean()) ** 2).sum()))
    half = t_quantile((1 + level) / 2, groups - 1) * error
    value = float(number_of(total))
    return value - half, value + half


def t_quantile(probability: float, degrees: int) -> float:
    """Return a quantile of Student's t, to 3 % for two degrees of freedom or more.

    M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, 1)))
