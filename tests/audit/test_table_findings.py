from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

import sightx
from sightx.audit import table_findings
from sightx.audit.audit import audit
from sightx.data.dataset import load_split_table
from sightx.errors import DataError
from sightx.records.table import ImageTable


def make_table(counts, *, groups=False) -> ImageTable:
    """Return a table with some samples per split and class."""
    rows = [
        (split, label)
        for split, numbers in counts.items()
        for label, number in enumerate(numbers)
        for _ in range(number)
    ]
    frame = pd.DataFrame(rows, columns=["split", "label"])
    frame["path"] = [f"{row}.png" for row in range(len(frame))]
    frame["group"] = [f"g{row // 2}" if groups else "" for row in range(len(frame))]
    classes = tuple("abcdefgh"[: len(next(iter(counts.values())))])
    return ImageTable(frame, classes, lambda row: b"")


def test_a_table_that_cannot_be_read_is_one_finding(project):
    spec = project.spec(label='"grade"')
    result = audit(sightx.load(spec))
    (finding,) = result.report.findings
    assert (finding.code, finding.severity) == ("missing-column", "refuse")
    assert "labels.csv:1: there is no column 'grade'" in finding.message
    assert result.table is None
    assert "nothing else was looked at" in result.report.statements[0]


def test_all_faults_of_a_table_are_found_in_one_audit(project, eyes, tmp_path):
    project.add("again.jpg", eyes["0_left"][0], 1, "0")
    project.rows += [
        ("again.jpg", 2, "0", "train"),
        ("0_left.jpg", 0, "0", "train"),
        ("a.jpg", 7, "0", "train"),
        ("b.jpg", 7, "0", "train"),
        ("c.jpg", "", "0", "train"),
        ("../d.jpg", 1, "0", "train"),
        ("", 1, "0", "train"),
        ("e.jpg", 1, "0", "deaf"),
        ("gone.jpg", 1, "0", "test"),
    ]
    spec = project.spec()
    labels = project.folder / "labels.csv"
    labels.write_text(labels.read_text() + "f.jpg,1\n")
    exclude = tmp_path / "exclude.csv"
    exclude.write_text("path,reason\nc.jpg,it has no label\n")
    experiment = sightx.load(spec, [f"dataset.exclude={exclude}"])

    report = audit(experiment).report

    refused = [finding for finding in report.findings if finding.severity == "refuse"]
    assert {finding.code: finding.count for finding in refused} == {
        "conflicting-labels": 1,
        "duplicate-row": 1,
        "label-unknown": 2,
        "label-missing": 1,
        "path-outside": 1,
        "path-empty": 1,
        "split-unknown": 1,
        "ragged-row": 1,
        "bad-images": 1,  # gone.jpg, which is also why group 0 is in two splits
        "group-leak": 4,
        "conflicting-copies": 1,  # again.jpg is 0_left.jpg
    }
    by_code = {finding.code: finding for finding in refused}
    assert "labels.csv:37: there is no class '7' (2 rows)" in by_code["label-unknown"].message
    assert all(finding.hint for finding in refused)
    first, *_ = report.statements
    assert first == "9 rows cannot be used; all numbers are of the other 34 samples."

    with pytest.raises(DataError) as caught:  # a run refuses the same rows, each in a line
        sightx.run(experiment, runs=tmp_path / "runs")
    of_images = {"bad-images", "group-leak", "conflicting-copies"}
    assert {problem.code for problem in caught.value.problems} == by_code.keys() - of_images


def test_a_split_that_cannot_be_made_is_a_finding_and_the_rest_is_audited(project, codes):
    rows = [(name, 0, group, split) for name, _, group, split in project.rows]
    project.rows = [("0_left.jpg", 1, "0", ""), *rows[1:-1], (rows[-1][0], 2, "15", "")]
    experiment = sightx.load(project.spec(split=""), ["split.use=stratified"])
    report = audit(experiment).report
    assert report.findings[0].code == "rare-class"
    assert report.findings[0].severity == "refuse"
    assert {row.split for row in report.classes} == {"train"}
    assert "quality" in codes(report)


def test_missing_files_and_files_without_a_row(project, eyes, codes):
    project.add("extra.jpg", eyes["0_left"][0], 0, "0")
    del project.rows[-1]
    (project.folder / "images" / "3_left.jpg").unlink()
    findings = codes(audit(sightx.load(project.spec())).report)
    assert findings["bad-images"].severity == "refuse"
    assert findings["bad-images"].examples[0].paths == ("3_left.jpg",)
    assert findings["bad-images"].examples[0].note == "missing"
    assert findings["unused-data"].count == 1
    assert "extra.jpg" in findings["unused-data"].message


def test_images_that_a_run_skips_are_a_warning(project, codes):
    (project.folder / "images" / "3_left.jpg").unlink()
    spec = project.spec(on_bad_image='"skip"', bad_images_at_most="0.1")
    finding = codes(audit(sightx.load(spec)).report)["bad-images"]
    assert (finding.severity, finding.count) == ("warn", 1)
    assert finding.threshold == "share 0.1: dataset.on_bad_image is 'skip'"


def test_a_patient_in_two_splits_refuses_with_its_images(project, codes):
    name, label, group, _ = project.rows[0]
    project.rows[0] = (name, label, group, "test")
    report = audit(sightx.load(project.spec())).report
    finding = codes(report)["group-leak"]
    assert finding.severity == "refuse"
    assert [example.paths for example in finding.examples] == [("0_left.jpg",), ("0_right.jpg",)]
    assert report.statements[0] == "1 of 16 groups are in two splits or more."


def test_classes_are_counted_by_samples_and_groups(project):
    rows = audit(sightx.load(project.spec())).report.classes
    assert len(rows) == 9
    assert sum(row.samples for row in rows) == 32
    first = next(row for row in rows if row.split == "test")
    assert (first.name, first.samples, first.groups, first.half_width) == ("0", 2, 1, 0.445)
    assert [row.half_width for row in rows if row.split == "train"] == [None] * 3


def test_a_rare_class_cannot_be_judged():
    table = make_table({"train": [50, 50], "test": [12, 9]})
    (finding,) = table_findings.class_findings(table, table_findings.class_rows(table))
    assert (finding.code, finding.number) == ("uncertain-recall", 9)
    assert "the recall of b (9 samples: about +-0.27)" in finding.message
    table = make_table({"train": [50, 50], "test": [20, 18]}, groups=True)
    (finding,) = table_findings.class_findings(table, table_findings.class_rows(table))
    assert "b (9 groups: about +-0.27)" in finding.message


@pytest.mark.parametrize(
    ("counts", "drifts"),
    [
        ({"train": [800, 200], "test": [400, 600]}, True),
        ({"train": [800, 200], "test": [195, 55]}, False),
        ({"train": [80, 20], "test": [6, 4]}, False),  # too few to know
        ({"train": [80000, 20000], "test": [79000, 21000]}, False),  # certain, and irrelevant
    ],
)
def test_drift_needs_an_effect_and_evidence(counts, drifts):
    findings = table_findings.drift_findings(make_table(counts))
    assert [finding.code for finding in findings] == ["class-drift"] * drifts
    if drifts:
        assert findings[0].number == 0.4
        assert "40 % of the samples" in findings[0].message


def test_samples_of_a_group_count_as_one():
    counts = {"train": [130, 60], "test": [60, 60]}
    alone = table_findings.drift_findings(
        make_table({k: [2 * n for n in v] for k, v in counts.items()})
    )
    pairs = make_table({k: [2 * n for n in v] for k, v in counts.items()}, groups=True)
    assert alone
    assert table_findings.drift_findings(pairs) == []


def test_baselines_are_the_metrics_of_the_majority_class(project):
    experiment = sightx.load(project.spec())
    table = load_split_table(experiment.dataset, experiment.split)
    baselines = table_findings.majority_baselines(experiment, table)
    labels = table.labels[(table.frame["split"] == "test").to_numpy()]
    train = table.labels[(table.frame["split"] == "train").to_numpy()]
    constant = np.full(len(labels), np.bincount(train).argmax())
    assert baselines["test"]["accuracy"] == pytest.approx((labels == constant).mean())
    assert baselines["test"]["balanced-accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, constant)
    )
    assert baselines["test"]["qwk"] == 0
    assert all("/" not in name for name in baselines["test"])
