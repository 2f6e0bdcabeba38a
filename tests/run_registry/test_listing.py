"""Listing: sorting by direction, folding against numpy and pandas, differing columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sightx
from sightx.run_registry.listing import Query, differing_columns, query_runs
from support.run_folders import RECORDED, read_json, replace_json, write_run

ACCURACIES = {("a", 0): 0.5, ("a", 1): 0.7, ("b", 0): 0.9, ("b", 1): 0.6, ("b", 2): 0.6}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for (model, seed), accuracy in ACCURACIES.items():
        settings = {"model.use": model, "seed": seed}
        metrics = {
            "validation/accuracy": accuracy,
            "validation/loss": 1 - accuracy,
            "test/accuracy": accuracy,
        }
        write_run(tmp_path, f"{model}{seed}", settings, metrics)
    write_run(tmp_path, "c0", {"model.use": "c"}, status="failed")
    return tmp_path


def ids(root: Path, **query: object) -> list[str]:
    rows = query_runs(root, Query(**query)).rows  # type: ignore[arg-type]
    return [row.ids[0].removeprefix("20260131-") for row in rows]


def test_metrics_are_sorted_with_the_best_first(root: Path) -> None:
    where = "model.use in (a, b)"
    best_first = ["b0", "a1", "b2", "b1", "a0"]
    assert ids(root, where=where, sort="accuracy") == best_first
    assert ids(root, where=where, sort="validation/loss") == best_first
    assert ids(root, where=where, sort="-accuracy")[0] == "a0"
    assert ids(root, sort="model.use")[0] == "a1"
    assert ids(root, limit=2) == ["c0", "b2"]
    assert ids(root, conditions=("model.use=b", "seed>0")) == ["b2", "b1"]


def test_folded_rows_have_mean_and_deviation_of_finished_runs(root: Path) -> None:
    rows = query_runs(root, Query(fold=("seed",), sort="accuracy")).rows
    assert [row.values["model.use"] for row in rows] == ["b", "a"]
    for row in rows:
        model = row.values["model.use"]
        numbers = [value for (name, _), value in ACCURACIES.items() if name == model]
        spread = row.spreads["validation/accuracy"]
        assert spread.mean == pytest.approx(np.mean(numbers))
        assert spread.deviation == pytest.approx(np.std(numbers, ddof=1))
        assert spread.runs == len(numbers) == len(row.ids)
    assert "seed" not in rows[0].values


def test_other_data_are_not_folded_and_other_test_rows_have_no_test_metric(root: Path) -> None:
    for number, name in enumerate(("a0", "a1")):
        data = read_json(RECORDED / "data.json") | {"splits": {"test": f"{number}"}}
        replace_json(root / f"20260131-{name}" / "data.json", data)
    row, _ = query_runs(root, Query(fold=("seed",))).rows[::-1]
    assert "test/accuracy" not in row.spreads
    assert row.spreads["validation/accuracy"].runs == 2
    replace_json(root / "20260131-a1" / "data.json", {"id": "other"})
    assert len(query_runs(root, Query(fold=("seed",))).rows) == 3


def test_only_what_differs_is_a_column(root: Path) -> None:
    rows = query_runs(root, Query(where="model.use in (a, b)")).rows
    columns = differing_columns(rows)
    assert columns == ["status", "epoch", "validation/balanced-accuracy", "seed", "model.use",
                       "test/balanced-accuracy", "seconds"]  # fmt: skip


def test_python_gets_a_data_frame(root: Path) -> None:
    frame = sightx.list_runs("model.use = b", sort="accuracy", runs=root)
    assert list(frame["validation/accuracy"]) == [0.9, 0.6, 0.6]
    folded = sightx.list_runs(fold="seed", runs=root)
    assert isinstance(folded, pd.DataFrame)
    assert dict(zip(folded["model.use"], folded["runs"], strict=True)) == {"a": 2, "b": 3}
    assert folded["validation/accuracy deviation"].notna().all()
    assert sightx.list_runs(runs=root / "nothing").empty


def test_an_unknown_key_to_sort_by_is_an_error(root: Path) -> None:
    with pytest.raises(
        sightx.SpecError, match=r"--sort: error\[unknown-key\] no run has 'acuracy'"
    ):
        query_runs(root, Query(sort="acuracy"))
    with pytest.raises(sightx.SpecError, match=r"no run has 'nope'; known: \S+, \S+.*, \.\.\."):
        query_runs(root, Query(sort="nope"))
