"""Find out whether facts of files, such as their size, tell classes or splits apart.

A model then finds this shortcut too (P. Grommelt et al., "Fake or JPEG?", 2024).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sightx.audit.findings import AuditFinding, Severity
from sightx.audit.image_properties import ImageProperties
from sightx.audit.statistics import auc_error
from sightx.evaluation.roc import roc_auc
from sightx.records.table import ImageTable

Array = np.ndarray[Any, Any]

_FOLDS = 5
_RIDGE = 1e-3
_COMMON_VALUES = 4  # of a fact, which get a column each
_STRONG_AUC, _CLASS_AUC, _SPLIT_AUC = 0.9, 0.75, 0.65
_ERRORS_ABOVE_CHANCE = 4  # standard errors
_MIN_SAMPLES = 10  # of a class or a split, to be told apart
FACTS = {
    "bytes": "size of the file", "width": "width", "height": "height", "aspect": "aspect ratio",
    "bytes_per_pixel": "bytes per pixel", "quantization": "JPEG quality", "format": "format",
    "is_progressive": "progressive JPEG", "mode": "colour mode", "bits": "bits per channel",
    "orientation": "EXIF block", "has_jfif": "JFIF header",
}  # fmt: skip


class Probe(NamedTuple):
    """How well labels follow from facts, out of sample.

    `auc` is the mean over labels of the AUC of one label against the others, 0.5 by chance;
    `error` its standard error by chance; `fact` the best single fact, with its AUC `fact_auc`.
    """

    auc: float
    error: float
    fact: str
    fact_auc: float


def file_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the facts that the probe uses, float (N, facts), without those that never differ."""
    area = (frame["width"] * frame["height"].astype(float)).clip(lower=1)
    facts = frame.assign(
        aspect=frame["width"] / frame["height"].clip(lower=1), bytes_per_pixel=frame["bytes"] / area
    )[list(FACTS)].astype(float)
    return facts.loc[:, facts.nunique() > 1]


def probe(facts: pd.DataFrame, labels: Array, groups: Array, seed: int = 0) -> Probe:
    """Predict labels from facts, for samples of groups that the prediction has not seen.

    Args:
        facts: One row per sample.
        labels: int (N,), 0 to K - 1.
        groups: (N,); samples of a group are in one fold.
        seed: Draws the folds.
    """
    if not len(facts.columns):
        return Probe(0.5, 0.0, "", 0.5)
    folds = _folds(groups, seed)
    columns = {str(name): _features(facts[name].to_numpy()) for name in facts}
    aucs = {name: _out_of_fold_auc(column, labels, folds) for name, column in columns.items()}
    best = max(aucs, key=aucs.__getitem__)
    together = _out_of_fold_auc(np.concatenate(list(columns.values()), axis=1), labels, folds)
    return Probe(max(together, aucs[best]), _chance_error(labels, groups), best, aucs[best])


def _folds(groups: Array, seed: int) -> Array:
    """Return a fold per sample, with the samples of a group in one."""
    names, group = np.unique(groups.astype(str), return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    folds: Array = (shuffled % _FOLDS)[group]
    return folds


def _features(values: Array) -> Array:
    """Return mid-ranks of a fact, their squares, and a column for each of its common values."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = ((np.cumsum(counts) - counts / 2) / len(values))[inverse] - 0.5
    columns = [ranks, ranks**2]
    for value in np.argsort(-counts, kind="stable")[:_COMMON_VALUES]:
        if 0.02 < counts[value] / len(values) < 0.98 and len(counts) < len(values) / 2:
            columns.append((inverse == value).astype(float))
    return np.stack(columns, axis=1)


def _out_of_fold_auc(features: Array, labels: Array, folds: Array) -> float:
    """Return the mean AUC of a ridge regression on the labels, weighted to equal classes."""
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    targets = np.eye(int(labels.max()) + 1)[labels]
    counts = targets.sum(axis=0)
    weights = (1 / np.maximum(counts, 1))[labels][:, None]
    scores, penalty = np.zeros_like(targets), _RIDGE * np.eye(design.shape[1])
    for fold in range(_FOLDS):
        is_train = folds != fold
        weighted = (design[is_train] * weights[is_train]).T
        solution = np.linalg.solve(
            weighted @ design[is_train] + penalty, weighted @ targets[is_train]
        )
        scores[~is_train] = design[~is_train] @ solution
    values = [roc_auc(labels == label, scores[:, label]) for label in np.flatnonzero(counts)]
    return float(np.nanmean(values))


def _chance_error(labels: Array, groups: Array) -> float:
    """Return the standard error of the mean AUC by chance, with groups in place of samples."""
    total = len(np.unique(groups.astype(str)))
    counts = [len(np.unique(groups[labels == label].astype(str))) for label in np.unique(labels)]
    errors = [auc_error(count, max(total - count, 1)) for count in counts]
    return math.sqrt(sum(error**2 for error in errors) / len(errors))


def shortcut_findings(table: ImageTable, images: ImageProperties) -> list[AuditFinding]:
    """Return whether facts of files tell classes apart, or the train from the test split."""
    is_file = images.is_known & (images.frame["format"] > 0).to_numpy()
    split = table.frame["split"].to_numpy() if "split" in table.frame else np.full(len(table), "")
    is_side = np.isin(split, ["train", "test"]) & is_file
    by_class = _probe_rows(table, images, table.labels, is_file)
    by_split = _probe_rows(table, images, (split == "test").astype(int), is_side)
    findings = [_class_finding(by_class), _split_finding(by_split)]
    return [finding for finding in findings if finding]


def _probe_rows(
    table: ImageTable, images: ImageProperties, labels: Array, chosen: Array
) -> Probe | None:
    """Return the probe of some rows without small classes; None if fewer than two remain."""
    counts = np.bincount(labels[chosen], minlength=1)
    rows = np.flatnonzero(chosen & (counts >= _MIN_SAMPLES)[np.minimum(labels, len(counts) - 1)])
    names, compact = np.unique(labels[rows], return_inverse=True)
    if len(names) < 2:
        return None
    return probe(file_columns(images.frame.iloc[rows]), compact, table.groups[rows])


def _exceeds(result: Probe | None, limit: float) -> bool:
    return result is not None and result.auc >= max(
        limit, 0.5 + _ERRORS_ABOVE_CHANCE * result.error
    )


def _class_finding(result: Probe | None) -> AuditFinding | None:
    if result is None or not _exceeds(result, _CLASS_AUC):
        return None
    severity: Severity = "warn" if result.auc >= _STRONG_AUC else "note"
    return AuditFinding(
        "shortcut-file", severity,
        f"the classes can be told apart by {_means(result)}: they may come from different "
        "sources, and a model may learn the source",
        number=round(result.auc, 3),
        threshold=f"AUC {_CLASS_AUC:g}, {_STRONG_AUC:g} to warn: one source measured 0.50 to 0.64, "
        "two sources 0.98 to 1.00",
        hint="collect both classes from each source, or store all images alike: one size, one "
        "JPEG quality",
    )  # fmt: skip


def _split_finding(result: Probe | None) -> AuditFinding | None:
    if result is None or not _exceeds(result, _SPLIT_AUC):
        return None
    return AuditFinding(
        "shortcut-split", "warn",
        f"train and test can be told apart by {_means(result)}: the test images differ from what "
        "is trained on",
        path="split", number=round(result.auc, 3),
        threshold=f"AUC {_SPLIT_AUC:g}: 0.5 is expected of a random split",
        hint="divide all images at random by group, or report the test split as another source",
    )  # fmt: skip


def _means(result: Probe) -> str:
    """Return the facts that tell samples apart, with their AUC."""
    name = FACTS[result.fact]
    if result.fact_auc > result.auc - 0.02:
        return f"{name} alone (AUC {result.fact_auc:.2f})"
    return f"facts of their files (AUC {result.auc:.2f}; {name} alone {result.fact_auc:.2f})"
