from __future__ import annotations

import json
import math

from sightx.audit.findings import AuditFinding, AuditReport, ClassRow, Example, share


def test_a_finding_keeps_twenty_examples_with_their_paths():
    examples = tuple(Example((row, 0)) for row in range(30))
    finding = AuditFinding("a", "note", "m", examples=examples).with_paths(
        [f"{row}.png" for row in range(30)]
    )
    assert len(finding.examples) == 20
    assert finding.examples[7].paths == ("7.png", "0.png")


def test_a_report_is_valid_json_without_nan():
    report = AuditReport(
        "a", 3, classes=(ClassRow("test", "x", 1, 1, None),), baselines={"test": {"qwk": math.nan}},
        findings=(AuditFinding("a", "warn", "m", number=math.nan, examples=(Example((1,)),)),),
    )  # fmt: skip
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["schema_version"] == 1
    assert plain["baselines"] == {"test": {"qwk": None}}
    assert plain["findings"][0]["number"] is None
    assert plain["findings"][0]["examples"] == [{"rows": [1], "note": "", "paths": []}]


def test_findings_are_counted_by_severity():
    findings = tuple(AuditFinding("a", severity, "m") for severity in ("refuse", "note", "note"))
    report = AuditReport("a", findings=findings)
    assert [report.count(severity) for severity in ("refuse", "warn", "note")] == [1, 0, 2]


def test_shares_are_written_with_their_numbers():
    assert share(12, 1000) == "12 of 1,000 (1.2 %)"
    assert share(0, 0) == "0 of 0 (0 %)"
