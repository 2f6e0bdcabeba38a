from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sightx.board import answers
from sightx.board.answers import RunsQuery
from sightx.errors import SpecError
from support.run_folders import replace_json, write_run


def test_runs_are_those_that_list_runs_lists(make_runs: Callable[[int], Path]) -> None:
    root = make_runs(30)
    listing = answers.list_runs(root, RunsQuery("lr > 0.001 and accuracy > 0.5", "", "accuracy"))
    values = [row["values"]["validation/accuracy"] for row in listing["rows"]]
    assert values == sorted(values, reverse=True)
    assert listing["matching"] == len(values) < listing["runs"] == 30
    assert {"seed", "optimizer.lr", "validation/accuracy"} <= set(listing["columns"])
    folded = answers.list_runs(root, RunsQuery("", "seed", ""))["rows"]
    assert [len(row["ids"]) for row in folded] == [5] * 6
    mean, deviation, runs = folded[0]["spreads"]["validation/accuracy"]
    assert (mean, runs) == (pytest.approx(27 / 31), 5)
    assert deviation == pytest.approx(2.5**0.5 / 31)
    with pytest.raises(SpecError, match="did you mean"):
        answers.list_runs(root, RunsQuery("modle.use = a"))


def test_curves_have_the_wanted_metrics(make_runs: Callable[[int], Path]) -> None:
    root = make_runs(2)
    first, second = "20260131-000000-little", "20260131-000001-little"
    curves = answers.curves(root, [first, second, "../runs", "none"])
    assert list(curves) == [first, second]
    assert curves[second]["metrics"]["validation/accuracy"] == pytest.approx(
        [step / 12 for step in (1, 2, 3, 4)]
    )
    assert "validation/recall/a" not in curves[first]["available"]
    assert list(answers.curves(root, [first], ["lr"])[first]["metrics"]) == ["lr"]


def test_tokens_change_with_the_runs(make_runs: Callable[[int], Path]) -> None:
    root = make_runs(2)
    id_ = "20260131-000000-little"
    tokens = [(answers.state_token(root), answers.curves_token(root, [id_]))]
    assert (answers.state_token(root), answers.curves_token(root, [id_])) == tokens[0]
    with (root / id_ / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 5, "train/loss": 0.0}) + "\n")
    replace_json(root / id_ / "about.json", {"tags": ["good"], "note": ""})
    for before, now in zip(
        tokens[0], (answers.state_token(root), answers.curves_token(root, [id_])), strict=True
    ):
        assert before != now
    write_run(root, "new")
    assert answers.state_token(root) not in {token for token, _ in tokens}


def test_a_run_is_described_with_its_files(make_runs: Callable[[int], Path]) -> None:
    root = make_runs(1)
    id_ = "20260131-000000-little"
    (root / id_ / "plots").mkdir()
    (root / id_ / "plots" / "curves.png").write_bytes(b"png")
    (root / id_ / "report.html").write_text("<p>")
    (root / id_ / "secret.txt").write_text("no")
    run = answers.describe(root, id_)
    assert run is not None
    assert run["files"][0] == "report.html"
    assert run["files"][-1] == "plots/curves.png"
    assert "secret.txt" not in run["files"]
    assert answers.describe(root, "../runs") is None
