"""The observer writes the report at the end of a run, with its hash."""

from __future__ import annotations

from pathlib import Path

import sightx
from support.models import write_tiny_spec


def test_a_run_writes_its_report(tmp_path: Path) -> None:
    sets = ["observer=[{use='report', images=false}, {use='curves', enabled=false}]"]
    run = sightx.run(sightx.load(write_tiny_spec(tmp_path), sets), runs=tmp_path / "runs")
    page = (run.directory / "report.html").read_text()
    assert run.id in page
    assert "<img" not in page
    assert "observers" not in run.result  # none was dropped
    assert "report.html" in (run.directory / "SHA256SUMS").read_text()
