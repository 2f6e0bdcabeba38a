"""The values of a run, also of one whose layout is older."""

from __future__ import annotations

import json
from pathlib import Path

from sightx.run_registry.description import describe_run
from sightx.run_registry.summary import (
    flatten_settings,
    is_setting,
    read_summary,
)
from support.run_folders import RECORDED, read_json, read_summaries, replace_json, write_run


def test_a_run_of_the_first_layout_has_its_values() -> None:
    summary = read_summary(RECORDED)
    assert summary is not None
    assert summary.has_ended
    expected = {
        "id": RECORDED.name, "name": "little", "status": "finished", "epoch": 2,
        "started": "2026-11-27T04:12:22Z", "model.use": "simplenet", "model.hidden": "[6]",
        "preprocess": "resize", "preprocess.resize.size": 8, "validation/accuracy": 1.0,
        "metric": "accuracy, balanced-accuracy, precision, recall, f1", "package.torch": "2.14.1",
        "samples": 48, "seconds": 5.503, "device": "cpu x86_64", "tags": "",
    }  # fmt: skip
    assert {key: summary.values[key] for key in expected} == expected


def test_settings_are_the_keys_of_the_experiment() -> None:
    keys = (
        "optimizer.lr",
        "seed",
        "validation/loss",
        "seconds",
        "package.torch",
        "execution.compile",
    )
    assert [key for key in keys if is_setting(key)] == ["optimizer.lr", "seed"]


def test_components_of_one_name_keep_their_settings() -> None:
    tables = {
        "augment": [{"use": "flip", "p": 1}, {"use": "flip", "p": 2}],
        "empty": [],
        "no": None,
    }
    assert flatten_settings(tables) == {
        "augment": "flip, flip-2", "augment.flip.p": 1, "augment.flip-2.p": 2, "empty": "[]"
    }  # fmt: skip


def test_a_run_without_a_result_shows_its_progress_and_damage_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", status="")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "validation/accuracy": 0.5}\n{"epoch": 4')  # an incomplete line
    values = dict(read_summary(run).values)  # type: ignore[union-attr]
    assert (values["status"], values["epoch"], values["validation/accuracy"]) == ("killed", 3, 0.5)
    (run / "result.json").write_text("{")
    values = dict(read_summary(run).values)  # type: ignore[union-attr]
    assert (values["status"], values["error"]) == ("unknown", "damaged: result.json")


def test_only_run_directories_are_summarised(tmp_path: Path) -> None:
    write_run(tmp_path, "b")
    write_run(tmp_path, "a")
    (tmp_path / "notes").mkdir()
    write_run(tmp_path / ".trash", "c")
    assert [summary.id for summary in read_summaries(tmp_path)] == ["20260131-a", "20260131-b"]
    assert read_summaries(tmp_path / "nothing") == []


def test_seconds_are_those_of_all_sessions(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a")
    replace_json(run / "sessions.json", {"sessions": [{"seconds": 10.0}, {"seconds": 5.0}]})
    assert read_summary(run).values["seconds"] == 15.0  # type: ignore[union-attr]


def test_a_run_that_ended_before_its_results_has_the_metrics_of_its_last_epoch(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path, "stopped", status="interrupted")
    replace_json(run / "result.json", {"status": "interrupted", "signal": 2})
    rows = [{"epoch": epoch, "validation/loss": 1 / epoch} for epoch in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    values = read_summary(run).values  # type: ignore[union-attr]
    assert (values["status"], values["epoch"]) == ("interrupted", 2)
    assert values["validation/loss"] == 0.5


def test_a_killed_session_has_the_seconds_of_its_epochs(tmp_path: Path) -> None:
    run = write_run(tmp_path, "killed", status="")
    ended = {"started": "2026-01-31T00:00:00Z", "ended": "x", "seconds": 5, "status": "interrupted"}
    last = {**ended, "ended": "", "seconds": 0, "status": ""}
    replace_json(run / "sessions.json", {"sessions": [ended, last]})
    environment = read_json(run / "environment.json") | {"resumes": [{"epoch": 1}]}
    replace_json(run / "environment.json", environment)
    rows = [{"epoch": epoch, "seconds": 10.0 * epoch} for epoch in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    summary = read_summary(run)
    assert summary is not None
    assert summary.values["seconds"] == 5 + 20 + 30
    assert describe_run(run).sessions[-1]["seconds"] == 50
