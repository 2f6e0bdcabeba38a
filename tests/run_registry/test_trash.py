"""Removing and restoring runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightx.errors import RunError
from sightx.run_registry import trash
from sightx.runs import lock, names
from support.run_folders import read_json, read_summaries, replace_json, write_run


def test_a_removed_run_is_not_listed_and_can_be_restored(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", whole=True)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    trash.remove_run(tmp_path, run)
    assert read_summaries(tmp_path) == []
    assert names.run_directories(tmp_path) == []
    second = write_run(tmp_path, "a")
    with pytest.raises(RunError, match="exists already"):
        trash.restore_run(tmp_path, run.name)
    trash.remove_run(tmp_path, second)  # under another name
    assert trash.restore_run(tmp_path, run.name) == run
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    (left,) = trash.removed_runs(tmp_path)
    size = trash.disk_usage(left)
    assert trash.purge([left]) == size > 0
    assert trash.removed_runs(tmp_path) == []


def test_runs_that_are_needed_stay(tmp_path: Path) -> None:
    parent, child = write_run(tmp_path, "a"), write_run(tmp_path, "b")
    environment = read_json(child / "environment.json")
    environment["parents"] = [{"run": parent.name, "why": "weights"}]
    replace_json(child / "environment.json", environment)
    with pytest.raises(RunError, match="1 run began with its weights: 20260131-b"):
        trash.remove_run(tmp_path, parent)
    with lock.run_lock(child), pytest.raises(RunError, match="in use"):
        trash.remove_run(tmp_path, child)
    trash.remove_run(tmp_path, child)
    trash.remove_run(tmp_path, parent)


@pytest.mark.parametrize("name", ["nothing", "../20260131-a"])
def test_only_runs_in_the_trash_are_restored(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, "a")
    with pytest.raises(RunError, match="in the trash"):
        trash.restore_run(tmp_path, name)
