"""Labels that a run's predictions contradict, with the other labels of the group as witnesses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightx.audit.findings import MAX_EXAMPLES, AuditFinding, Example
from sightx.records.predictions import Predictions
from sightx.records.table import ImageTable

Array = np.ndarray[Any, Any]

_PRIOR_WEIGHT = 0.5  # of the shares of classes, in counts of pairs


def label_doubts(
    probabilities: Array, labels: Array, members: Sequence[Array], pairs: Array, *, ordered: bool
) -> Array:
    """Return how doubtful each label is, (N,): the larger, the more doubtful.

    The probability of class k is multiplied by how often the other members of a group have the
    labels that they have, if one is k. The doubt is the ranked probability score for ordered
    classes (E. S. Epstein, 1969), else one minus the probability of the label.

    Args:
        probabilities: Predicted probabilities, (N, K); the samples were not trained on.
        labels: int (N,).
        members: The labels of the other members of each sample's group.
        pairs: int (K, K): how many pairs of one group have these labels.
        ordered: Whether the classes are grades.
    """
    classes = probabilities.shape[1]
    prior = np.bincount(labels, minlength=classes) / max(len(labels), 1)
    counts = pairs + _PRIOR_WEIGHT * prior
    given = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    joint = probabilities.astype(float).copy()
    for row, others in enumerate(members):
        joint[row] *= given[:, others].prod(axis=1)
    joint /= np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)
    if not ordered:
        doubts: Array = 1 - joint[np.arange(len(labels)), labels]
        return doubts
    steps = np.arange(classes) >= labels[:, None]
    scores: Array = ((joint.cumsum(axis=1) - steps) ** 2).sum(axis=1)
    return scores


def doubt_findings(table: ImageTable, predictions: Sequence[Predictions]) -> list[AuditFinding]:
    """Return the labels worth a second look, among samples that a run has predicted."""
    rows_of = {path: row for row, path in enumerate(table.frame["path"].to_numpy(object))}
    parts = [
        (rows_of[key], position, part)
        for part in predictions
        for position, key in enumerate(part.keys)
        if key in rows_of and part.classes == table.classes
    ]
    if not parts:
        return []
    rows = np.array([row for row, _, _ in parts])
    probabilities = np.stack([part.probabilities[position] for _, position, part in parts])
    members, pairs = _members(table, rows)
    labels = table.labels[rows]
    doubts = label_doubts(probabilities, labels, members, pairs, ordered=table.ordered)
    order = np.argsort(-doubts, kind="stable")[:MAX_EXAMPLES]
    examples = tuple(
        Example((int(rows[at]),), _note(table, labels[at], probabilities[at], members[at]))
        for at in order
    )
    message = (
        f"these {len(examples)} of {len(rows):,} labels are the ones that the predictions "
        "contradict most; the train split was not judged"
    )
    return [
        AuditFinding(
            "label-doubt", "note", message, number=round(float(doubts[order[0]]), 3),
            threshold="a ranking, not a number of errors: predictions of a weak model doubt many "
            "correct labels",
            hint="look at them again, and correct the labels that are wrong",
            count=len(examples), examples=examples,
        )
    ]  # fmt: skip


def _members(table: ImageTable, rows: Array) -> tuple[list[Array], Array]:
    """Return the labels of the other members of some rows' groups, and counts of all pairs."""
    labels, pairs = table.labels, np.zeros((len(table.classes),) * 2)
    groups: dict[str, list[int]] = {}
    for row, group in enumerate(table.frame["group"].to_numpy(object)):
        if group:
            groups.setdefault(group, []).append(row)
    for group_rows in groups.values():
        counts = np.bincount(labels[group_rows], minlength=len(pairs))
        pairs += np.outer(counts, counts) - np.diag(counts)
    names = table.frame["group"].to_numpy(object)
    others = [
        labels[[other for other in groups.get(names[row], []) if other != row]] for row in rows
    ]
    return others, pairs


def _note(table: ImageTable, label: int, probabilities: Array, others: Array) -> str:
    """Return the label, the predicted class, and the labels of the group."""
    predicted = int(probabilities.argmax())
    note = (
        f"labelled {table.classes[label]}, predicted {table.classes[predicted]} "
        f"({probabilities[predicted]:.2f})"
    )
    names = ", ".join(table.classes[other] for other in others[:4])
    return f"{note}; others of its group: {names}" if names else note
