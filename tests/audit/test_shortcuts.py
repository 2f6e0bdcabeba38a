from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

import sightx
from sightx.audit.audit import audit
from sightx.audit.file_facts import read_facts
from sightx.audit.shortcuts import file_columns, probe
from sightx.builtin.datasets.synthetic_fundus.render import render
from support.images import encode

COUNT = 120


def facts_of(files) -> pd.DataFrame:
    return file_columns(pd.DataFrame([read_facts(file)._asdict() for file in files]))


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [render(1, patient, "left", patient % 5, 40) for patient in range(COUNT)]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, COUNT)


def test_two_sources_of_different_jpeg_quality_are_told_apart(images, labels):
    files = [
        encode(image, "JPEG", quality=85 if label else 92)
        for image, label in zip(images, labels, strict=True)
    ]
    result = probe(facts_of(files), labels, np.arange(COUNT))
    assert result.auc > 0.95
    assert result.fact in ("quantization", "bytes_per_pixel", "bytes")


def test_two_sources_of_different_size_are_told_apart(images, labels):
    rng = np.random.default_rng(1)
    files = [
        encode(image[: 40 - rng.integers(0, 3) - 3 * label], "JPEG")
        for image, label in zip(images, labels, strict=True)
    ]
    assert probe(facts_of(files), labels, np.arange(COUNT)).auc > 0.95


def test_one_source_is_not_told_apart(images, labels):
    files = [encode(image, "JPEG", quality=85) for image in images]
    result = probe(facts_of(files), labels, np.arange(COUNT))
    assert result.auc < 0.7
    assert 0.04 < result.error < 0.07


def test_facts_that_never_differ_tell_nothing(labels):
    files = [encode(np.zeros((4, 4, 3), np.uint8), "PNG")] * COUNT
    assert facts_of(files).shape == (COUNT, 0)
    assert probe(facts_of(files), labels, np.arange(COUNT)).auc == 0.5


def test_groups_are_not_learned_by_heart():
    """Patients have a size and a label each, so that a fold by image would be near perfect."""
    rng = np.random.default_rng(0)
    groups, labels = np.repeat(np.arange(8), 40), np.repeat([0, 1, 1, 0, 1, 0, 0, 1], 40)
    facts = pd.DataFrame({"bytes": np.repeat(rng.random(8), 40)})
    assert probe(facts, labels, np.arange(320)).auc > 0.85
    assert probe(facts, labels, groups).auc < 0.6


def test_the_auc_is_near_that_of_a_logistic_regression():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 600)
    facts = pd.DataFrame({"bytes": labels + rng.normal(0, 1.2, 600), "width": rng.random(600)})
    scores = cross_val_predict(
        LogisticRegression(), facts, labels, groups=np.arange(600), cv=GroupKFold(5),
        method="predict_proba",
    )[:, 1]  # fmt: skip
    expected = roc_auc_score(labels, scores)
    assert probe(facts, labels, np.arange(600)).auc == pytest.approx(expected, abs=0.03)


def test_an_audit_names_the_fact(project, eyes, codes):
    for number, (pixels, _) in enumerate(eyes.values()):
        label = number % 2
        project.add(f"{number}.jpg", pixels, label, f"n{number}", quality=30 + 60 * label)
    project.rows = [row for row in project.rows if row[2].startswith("n")]
    report = audit(sightx.load(project.spec(split=""), ["split.use=stratified"])).report
    finding = codes(report)["shortcut-file"]
    assert finding.severity == "warn"
    assert finding.number > 0.95
    assert "alone (AUC 1.00)" in finding.message


def test_an_audit_tells_a_test_split_from_another_source(project, eyes, codes):
    project.rows = []
    for number, (pixels, _) in enumerate(eyes.values()):
        split = "test" if number % 2 else "train"
        project.add(f"{number}.jpg", pixels, number // 2 % 3, f"n{number}", split,
                    quality=40 if number % 2 else 95)  # fmt: skip
    findings = codes(audit(sightx.load(project.spec())).report)
    assert findings["shortcut-split"].number > 0.95
    assert "shortcut-file" not in findings
