"""Differences of runs: their order and their effect."""

from __future__ import annotations

from pathlib import Path

from sightx.run_registry.diff import diff_runs
from support.run_folders import read_json, replace_json, write_run


def test_differences_are_ordered_by_their_likely_effect(tmp_path: Path) -> None:
    one = write_run(tmp_path, "a", whole=True)
    other = write_run(tmp_path, "b", {"seed": 1, "optimizer.lr": 0.1}, whole=True,
                      metrics={"validation/balanced-accuracy": 0.25})  # fmt: skip
    environment = read_json(other / "environment.json")
    environment["packages"] |= {"torch": "3.0", "pandas": "9"}
    environment["numerics"]["threads"] = 8
    environment |= {"host": "gpu2", "commit": "abc"}
    environment["execution"] |= {"compile": True, "threads": 4}
    environment["components"][1]["revision"] = 2
    replace_json(other / "environment.json", environment)
    replace_json(other / "data.json", read_json(one / "data.json") | {"id": "other"})
    (other / "split.csv").write_text("path,group,label,split,sha256\n")
    rows = (other / "metrics.jsonl").read_text().splitlines()
    (other / "metrics.jsonl").write_text(
        rows[0] + "\n" + rows[1].replace('"train/loss": 0', '"train/loss": 9') + "\n"
    )
    changes = diff_runs([one, other])
    assert [(change.topic, change.key, change.effect) for change in changes] == [
        ("data", "id", "changes results"),
        ("split", "split.csv", "changes results"),
        ("seed", "seed", "changes results"),
        ("code", "split given", "changes results"),
        ("spec", "optimizer.lr", "changes results"),
        ("numerics", "numerics.threads", "last digits"),
        ("numerics", "execution.compile", "last digits"),
        ("packages", "packages.torch", "last digits"),
        ("packages", "packages.pandas", "harmless"),
        ("hardware", "host", "harmless"),
        ("names", "commit", "harmless"),
        ("names", "execution.threads", "harmless"),
        ("result", "validation/balanced-accuracy", ""),
        ("result", "train/loss of epoch 2, the first that differs", ""),
    ]
    assert {change.key: change.values for change in changes}["optimizer.lr"] == (0.001, 0.1)


def test_equal_runs_do_not_differ_and_three_runs_have_three_values(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, name, whole=True) for name in "ab"]
    assert diff_runs(runs) == []
    third = write_run(tmp_path, "c", {"seed": 3}, whole=True)
    (change,) = diff_runs([*runs, third])
    assert (change.topic, change.values) == ("seed", (0, 0, 3))


def test_files_of_the_spec_are_compared_by_content(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, name) for name in "ab"]
    for run in runs:
        (run / "inputs").mkdir()
        (run / "inputs" / "labels.csv").write_text(run.name)
    assert [(c.topic, c.key, c.effect) for c in diff_runs(runs)] == [
        ("files", "labels.csv", "changes results")
    ]
