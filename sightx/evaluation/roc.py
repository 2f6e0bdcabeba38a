"""Areas under curves over all thresholds of a score: the ROC curve, and precision over recall.

Both are computed for many weightings of the same samples at once, such as the draws of a bootstrap:
the scores are sorted only once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def roc_auc(is_positive: Array, scores: Array) -> float:
    """Return the area under the ROC curve, from 0 to 1; NaN without both sorts of samples.

    It is how often a positive sample has a higher score than a negative one, ties counting half (J.
    A. Hanley and B. J. McNeil, 1982). `is_positive` is bool (N,), `scores` (N,).
    """
    positives = int(is_positive.sum())
    pairs = positives * (len(scores) - positives)
    if not pairs:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores, from 1
    rank_sum = ranks[inverse][is_positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / pairs)


def roc_auc_influence(
    is_positive: Array, scores: Array, groups: Array
) -> tuple[float, float, Array]:
    """Return the area under the ROC curve, its variance over groups, and what each group adds.

    A positive sample adds how many of the negative ones have a lower score, a negative one how many
    of the positive ones have a higher one, relative to the area; the variance is that of DeLong et
    al. (1988) for samples without groups (N. A. Obuchowski, Biometrics 53, 1997). Both sorts of
    samples must be there; `groups` (N,) are positions of groups, and the last array is (groups,).
    """
    count = int(groups.max()) + 1
    highs, lows = np.sort(scores[is_positive]), np.sort(scores[~is_positive])
    above = _share_below(lows, scores[is_positive])
    below = 1 - _share_below(highs, scores[~is_positive])
    area, parts, variance = float(above.mean()), [], 0.0
    for mask, shares in ((is_positive, above), (~is_positive, below)):
        part = np.bincount(groups[mask], (shares - area) / len(shares), count)
        members = len(np.unique(groups[mask]))
        variance += members / max(members - 1, 1) * float((part**2).sum())
        parts.append(part)
    variance += 2 * count / max(count - 1, 1) * float(parts[0] @ parts[1])
    return area, variance, parts[0] + parts[1]


def _share_below(ordered: Array, scores: Array) -> Array:
    """Return which fraction of ordered scores is below each of some; equal ones count half."""
    ranks: Array = np.searchsorted(ordered, scores, "left")
    return (ranks + np.searchsorted(ordered, scores, "right")) / (2 * len(ordered))


def weighted_roc_auc(is_positive: Array, scores: Array, weights: Array) -> Array:
    """Return `roc_auc` for each row of `weights` (draws, N): how often each sample counts."""
    _, positive, negative = _by_score(is_positive, scores, weights)
    below = np.cumsum(negative, axis=1) - negative / 2  # equal scores count half
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _divide((positive * below).sum(axis=1), pairs)


def weighted_average_precision(is_positive: Array, scores: Array, weights: Array) -> Array:
    """Return the average precision for each row of `weights` (draws, N); NaN without positives.

    It is the mean over thresholds of the precision, weighted by the increase of the recall.
    """
    _, positive, negative = _by_score(is_positive, scores, weights)
    hits = np.cumsum(positive[:, ::-1], axis=1)
    alarms = np.cumsum(negative[:, ::-1], axis=1)
    precision = np.divide(hits, hits + alarms, out=np.zeros_like(hits), where=hits + alarms > 0)
    return _divide((precision * positive[:, ::-1]).sum(axis=1), positive.sum(axis=1))


def threshold_counts(is_positive: Array, scores: Array) -> tuple[Array, Array, Array]:
    """Return the distinct scores, and the positive and negative samples at or above each of them.

    The scores (T,) ascend; the samples (T,) are numbers of those that the threshold calls positive.
    """
    thresholds, positive, negative = _by_score(is_positive, scores, np.ones((1, len(scores))))
    hits, alarms = (np.cumsum(part[0, ::-1])[::-1] for part in (positive, negative))
    return thresholds, hits, alarms


def roc_curve(is_positive: Array, scores: Array) -> tuple[Array, Array]:
    """Return the false and true positive rates of all thresholds, ascending from (0, 0) to (1, 1).

    Both sorts of samples must be there.
    """
    _, hits, alarms = threshold_counts(is_positive, scores)
    false, true = (np.append(0.0, part[::-1] / part[0]) for part in (alarms, hits))
    return false, true


def precision_recall_curve(is_positive: Array, scores: Array) -> tuple[Array, Array]:
    """Return recall and precision of all thresholds, from the highest; a sample is positive."""
    _, hits, alarms = threshold_counts(is_positive, scores)
    return (hits / hits[0])[::-1], (hits / (hits + alarms))[::-1]


def net_benefit(is_positive: Array, scores: Array, thresholds: Array) -> Array:
    """Return the net benefit at each threshold of a probability, in true positives per sample.

    It is TP / N - FP / N * t / (1 - t): a threshold t says that one more true positive is worth
    (1 - t) / t false ones (A. J. Vickers and E. B. Elkin, 2006).
    """
    is_called = (scores[None, :] >= thresholds[:, None]).astype(float)
    hits, alarms = is_called @ is_positive, is_called @ ~is_positive
    benefit: Array = (hits - alarms * thresholds / (1 - thresholds)) / len(scores)
    return benefit


def _by_score(is_positive: Array, scores: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return the distinct scores (T,), and the weights of both sorts of samples at each of them.

    The weights are (draws, T).
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    if not len(ordered):
        empty = np.zeros((len(weights), 0))
        return ordered, empty, empty
    total = weights[:, order]
    positive = total * is_positive[order]
    sums = np.add.reduceat(positive, starts, axis=1)
    return ordered[starts], sums, np.add.reduceat(total, starts, axis=1) - sums


def _divide(numerator: Array, denominator: Array) -> Array:
    out = np.full(numerator.shape, math.nan)
    ratio: Array = np.divide(numerator, denominator, out=out, where=denominator > 0)
    return ratio
