from __future__ import annotations

from pathlib import Path

import pytest

import sightx
from sightx import DataError, Run
from sightx.inference.scoring import evaluate


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> Run:
    sets = ["evaluation.test=on-request"]
    return sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")


def test_figures_on_request_are_those_at_the_end(run: Run, spec: Path, tmp_path: Path) -> None:
    at_end = sightx.run(sightx.load(spec), runs=tmp_path / "runs").result["test"]
    found = evaluate(run, "test")
    assert found == pytest.approx(at_end)
    assert len(run.predictions("test")) == 12


def test_validation_again_is_what_the_run_saw(run: Run) -> None:
    assert evaluate(run, "validation") == pytest.approx(run.result["validation"])
    last = evaluate(run, "validation", checkpoint="last")
    row = run.metrics.iloc[-1]
    assert last["validation/loss"] == pytest.approx(row["validation/loss"])


def test_data_that_are_gone_are_said(run: Run, folders: Path) -> None:
    (folders / "test" / "dark" / "0.png").unlink()
    with pytest.raises(DataError, match="11 of the 12 test samples"):
        evaluate(run, "test")
