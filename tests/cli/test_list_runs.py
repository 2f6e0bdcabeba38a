"""`sightx list-runs` and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightx.cli.tables import cell_text, duration_text
from support.commands import sightx_main
from support.run_folders import write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    for seed, accuracy in enumerate((0.5, 0.7)):
        metrics = {"validation/balanced-accuracy": accuracy}
        write_run(tmp_path, f"a{seed}", {"seed": seed, "optimizer.lr": 0.1}, metrics)
    write_run(tmp_path, "b0", {"optimizer.lr": 0.2}, status="", tags=("candidate",))
    return ["--runs", str(tmp_path)]


def test_a_table_has_the_columns_that_differ(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("list-runs", *runs) == 0
    header, first, *_, last = capsys.readouterr().out.splitlines()
    names = header.split()
    assert names[:4] == ["run", "status", "epochs", "validation/balanced-accuracy"]
    assert names[4:7] == ["seed", "optimizer.lr", "test/balanced-accuracy"]
    assert first.split()[:3] == ["20260131-b0", "killed", "2/2"]
    assert last == f"3 of 3 matching, 3 runs in {runs[1]}"


def test_the_key_of_the_order_has_a_column(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("list-runs", "--sort", "-seed", "seed=1", *runs) == 0
    assert capsys.readouterr().out.split()[:4] == ["run", "status", "epochs", "seed"]


def test_folded_runs_show_mean_deviation_and_number(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("list-runs", "lr=0.1", "--fold", "seed", *runs) == 0
    assert "0.6000 ± 0.1414" in capsys.readouterr().out
    assert sightx_main("list-runs", "lr=0.1", "--fold", "seed", "--json", *runs) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["runs"] == ["20260131-a1", "20260131-a0"]
    assert row["validation/balanced-accuracy"]["runs"] == 2


def test_json_and_columns(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        sightx_main("list-runs", "--where", "@candidate", "--json", "--columns", "lr,id", *runs)
        == 0
    )
    assert json.loads(capsys.readouterr().out) == [{"id": "20260131-b0", "optimizer.lr": 0.2}]
    assert sightx_main("list-runs", "--all-columns", "--limit", "1", *runs) == 0
    assert "package.torch" in capsys.readouterr().out
    assert sightx_main("list-runs", "seed=9", *runs) == 0
    assert capsys.readouterr().out == f"none of 3 runs in {runs[1]} matches\n"
    assert sightx_main("list-runs", "--where", "seed =", *runs) == 2
    assert "--where:1:7: error[bad-filter]" in capsys.readouterr().err


def test_cells_are_readable() -> None:
    assert [duration_text(seconds) for seconds in (0, 41.4, 125, 3600, 93784)] == [
        "0s", "41s", "2m 5s", "1h", "1d 2h"
    ]  # fmt: skip
    assert cell_text("validation/loss", 0.123456) == "0.1235"
    assert cell_text("optimizer.lr", 0.001) == "0.001"
    assert cell_text("execution.compile", False) == "false"
    assert cell_text("x", None) == "-"


def test_a_folder_without_runs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sightx_main("list-runs", "--runs", str(tmp_path)) == 0
    assert f"there are no runs in {tmp_path}; --runs FOLDER" in capsys.readouterr().out
