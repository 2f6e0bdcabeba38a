from __future__ import annotations

import numpy as np
import pytest

import sightx
from sightx.audit.audit import audit
from sightx.audit.copies import Copies
from sightx.audit.copy_findings import clusters


def content(project, name) -> bytes:
    return (project.folder / "images" / name).read_bytes()


def test_a_copy_in_another_split_refuses(project, codes):
    project.add("copy.jpg", content(project, "0_left.jpg"), 0, "0", "test")
    report = audit(sightx.load(project.spec())).report
    finding = codes(report)["copies-across-splits"]
    assert (finding.severity, finding.count) == ("refuse", 1)
    assert finding.examples[0].paths == ("0_left.jpg", "copy.jpg")
    assert finding.examples[0].note == "equal files; train and test"
    assert report.statements[1].startswith("1 exact, 0 certain and 0 likely near copies across")
    assert dict(report.suggestions) == {"0_left.jpg": "a copy of copy.jpg"}


def test_a_near_copy_in_another_split_refuses(project, eyes, codes):
    project.add("copy.jpg", eyes["0_left"][0][:, ::-1], 0, "0", "test", quality=90)
    report = audit(sightx.load(project.spec())).report
    finding = codes(report)["copies-across-splits"]
    assert finding.examples[0].note.startswith("certain, mirrored: ")
    assert "0 exact, 1 certain" in report.statements[1]


def test_allow_turns_leaks_into_warnings(project, codes):
    project.add("copy.jpg", content(project, "0_left.jpg"), 0, "0", "test")
    spec = project.spec()
    spec.write_text('allow = ["copies-across-splits"]\n' + spec.read_text())
    assert codes(audit(sightx.load(spec)).report)["copies-across-splits"].severity == "warn"


def test_labels_that_contradict_each_other_can_be_allowed(project, codes):
    project.add("copy.jpg", content(project, "0_left.jpg"), 2, "0")
    spec = project.spec()
    spec.write_text('allow = ["conflicting-copies"]\n' + spec.read_text())
    assert codes(audit(sightx.load(spec)).report)["conflicting-copies"].severity == "warn"


def test_copies_that_are_in_no_split_do_not_leak(project, codes):
    project.add("copy.jpg", content(project, "0_left.jpg"), 0, "", "")
    project.rows.insert(0, project.rows.pop())
    assert "copies-across-splits" not in codes(audit(sightx.load(project.spec())).report)


def test_copies_with_different_labels_contradict_each_other(project, codes):
    project.add("copy.jpg", content(project, "0_left.jpg"), 2, "0")
    report = audit(sightx.load(project.spec())).report
    finding = codes(report)["conflicting-copies"]
    assert (finding.severity, finding.number) == ("refuse", pytest.approx(2 / 33, abs=1e-4))
    assert finding.examples[0].note == "equal files; 0 and 2"
    assert dict(report.suggestions) == dict.fromkeys(
        ("0_left.jpg", "copy.jpg"), "copies are labelled 0 and 2"
    )


def test_copies_of_other_groups_say_that_groups_are_wrong(project, codes):
    for number in range(5):
        project.add(
            f"c{number}.jpg", content(project, f"{number}_left.jpg"), number % 3, f"x{number}"
        )
    findings = codes(audit(sightx.load(project.spec())).report)
    finding = findings["copies-across-groups"]
    assert (finding.severity, finding.count, finding.path) == ("warn", 5, "dataset.group")
    assert finding.examples[0].note == "equal files; 0 and x0"
    assert findings["copies"].severity == "note"
    assert (
        "5 of 37 (14 %) images are copies within their split: 5 exact" in findings["copies"].message
    )


def test_clusters_are_connected_components():
    pairs = np.array([[0, 5], [5, 7], [1, 2], [7, 9]])
    copies = Copies(pairs, np.full(4, "exact"), ("",) * 4)
    assert clusters(copies) == [[0, 5, 7, 9], [1, 2]]
