"""The page of results has what the recorded runs reached, and so have the headers of the specs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

import sightx

ROOT = Path(__file__).parents[1]
COMMAND = "python benchmarks/results.py RUN ..."


def load_script() -> ModuleType:
    """Return benchmarks/results.py as a module."""
    path = ROOT / "benchmarks" / "results.py"
    spec = importlib.util.spec_from_file_location("benchmark_results", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


results = load_script()
RECORDS = json.loads(results.RECORDS.read_text())


def header(spec: str) -> str:
    """Return the comments at the top of a spec as one line."""
    lines = (ROOT / "specs" / spec).read_text().splitlines()[1:]
    comments = [line for line in lines if line.startswith("#")]
    return " ".join(line.removeprefix("#").strip() for line in comments)


def test_the_page_shows_the_records() -> None:
    assert results.PAGE.read_text() == results.render(RECORDS), COMMAND


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["run"])
def test_a_record_is_of_the_spec_as_it_is(record: dict) -> None:
    text = (ROOT / "specs" / record["spec"]).read_text()
    assert record["settings"] == results.settings_hash(text), f"run {record['spec']}; {COMMAND}"


@pytest.mark.parametrize("row", results.rows(RECORDS), ids=lambda row: row[0]["run"])
def test_the_header_of_a_spec_has_the_recorded_result(row: list[dict]) -> None:
    for name in row[0]["figures"]:
        assert results.figure(row, name) in header(row[0]["spec"]), name


def test_runs_become_a_row_with_their_mean_and_interval(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RECORDS", tmp_path / "results.json")
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    spec, reached = ROOT / "specs" / "catfish_simplenet.toml", []
    for seed in (0, 1):
        sets = {"dataset.root": str(folders), "training.epochs": 1, "seed": seed}
        run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
        reached.append(run.result["test"]["test/accuracy"])
        monkeypatch.setattr(sys, "argv", ["results.py", str(run.directory)])
        results.main()
        if seed == 0:
            low, high = run.result["intervals"]["test/accuracy"]
            expected = f"accuracy {100 * reached[0]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            assert f"{expected}<br>one seed" in results.PAGE.read_text()
    mean, error = 100 * np.mean(reached), 100 * stats.sem(reached)
    low, high = stats.t.interval(0.95, 1, mean, error) if error else (mean, mean)
    row = results.PAGE.read_text().splitlines()[-1]
    assert f"accuracy {mean:.1f} % [{low:.1f}, {high:.1f}]<br>2 seeds" in row
    assert row.startswith("| `catfish_simplenet.toml` `--set training.epochs=1` | data `")
    assert "| 24, 12, 12 |" in row
    assert "| 50.0 % |" in row
    assert all(f"`{path.name}`" in row for path in (tmp_path / "runs").iterdir())
    assert re.search(rf"\d min\*? \| .+, \d+ cores \| torch {re.escape(torch_version())}, ", row)


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text("")
    with pytest.raises(SystemExit, match="not a finished run"):
        results.read_record(tmp_path)


def torch_version() -> str:
    """Return the version of torch, as a run records it."""
    return importlib.metadata.version("torch")
