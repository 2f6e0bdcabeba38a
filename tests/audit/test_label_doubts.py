from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import sightx
from sightx.audit.audit import audit, audit_run
from sightx.audit.label_doubts import label_doubts
from sightx.data.dataset import load_split_table
from sightx.records.predictions import Predictions

NOBODY = np.empty(0, int)


def simulate(seed=0, patients=600, classes=5):
    """Return probabilities, true labels, and wrong labels: both eyes have one grade in 87 %."""
    rng = np.random.default_rng(seed)
    first = rng.choice(classes, patients, p=[0.7, 0.08, 0.16, 0.03, 0.03])
    second = np.where(rng.random(patients) < 0.87, first, rng.permutation(first))
    truth = np.stack([first, second], axis=1).ravel()
    logits = rng.normal(0, 1.5, (2 * patients, classes))
    logits[np.arange(2 * patients), truth] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    wrong = rng.choice(2 * patients, 60, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, 60)) % classes
    return probabilities, labels, labels != truth


def pairs_of(labels):
    counts = np.zeros((5, 5))
    for one, other in labels.reshape(-1, 2):
        counts[one, other] += 1
        counts[other, one] += 1
    return counts


def test_without_groups_the_doubt_is_one_minus_the_probability_of_the_label():
    probabilities, labels, _ = simulate()
    doubts = label_doubts(
        probabilities, labels, [NOBODY] * len(labels), np.zeros((5, 5)), ordered=False
    )
    assert doubts == pytest.approx(1 - probabilities[np.arange(len(labels)), labels])


def test_ordered_classes_are_scored_by_the_ranked_probability_score():
    doubts = label_doubts(
        np.array([[0.2, 0.5, 0.3]]), np.array([2]), [NOBODY], np.zeros((3, 3)), ordered=True
    )
    assert doubts[0] == pytest.approx(0.2**2 + 0.7**2)


def test_the_other_eye_is_a_witness():
    probabilities, labels, is_wrong = simulate()
    others = [labels[[row ^ 1]] for row in range(len(labels))]
    precisions = [
        average_precision_score(
            is_wrong, label_doubts(probabilities, labels, members, pairs, ordered=True)
        )
        for members, pairs in (
            ([NOBODY] * len(labels), np.zeros((5, 5))),
            (others, pairs_of(labels)),
        )
    ]
    assert precisions[1] > precisions[0] + 0.1


def test_labels_that_agree_by_chance_change_nothing():
    probabilities, labels, _ = simulate()
    counts = np.outer(np.bincount(labels), np.bincount(labels))
    others = [labels[[row ^ 1]] for row in range(len(labels))]
    alone = label_doubts(probabilities, labels, [NOBODY] * len(labels), counts, ordered=True)
    assert label_doubts(probabilities, labels, others, counts, ordered=True) == pytest.approx(alone)


def test_an_audit_with_predictions_lists_the_planted_label(project, codes):
    experiment = sightx.load(project.spec())
    table = load_split_table(experiment.dataset, experiment.split)
    rows = np.flatnonzero((table.frame["split"] == "test").to_numpy())
    truth = table.labels[rows]
    truth[1] = (truth[1] + 2) % 3  # of the second eye of a patient, whose first eye is right
    probabilities = np.full((len(rows), 3), 0.1)
    probabilities[np.arange(len(rows)), truth] = 0.8
    predictions = Predictions(
        keys=tuple(table.frame["path"].iloc[rows]), groups=tuple(table.frame["group"].iloc[rows]),
        labels=table.labels[rows], outputs=probabilities, probabilities=probabilities,
        decisions=truth, classes=table.classes, ordered=True,
    )  # fmt: skip
    findings = codes(audit(experiment, predictions=[predictions]).report)
    first = findings["label-doubt"].examples[0]
    assert first.paths == (table.frame["path"].iloc[rows[1]],)
    assert "; others of its group: " in first.note
    assert "6 of 6 labels" in findings["label-doubt"].message


def test_a_run_is_audited_with_its_predictions(project, tmp_path, codes):
    run = sightx.run(sightx.load(project.spec()), runs=tmp_path / "runs")
    findings = codes(audit_run(run).report)
    assert findings["label-doubt"].severity == "note"
    assert "12 of 12 labels" in findings["label-doubt"].message
