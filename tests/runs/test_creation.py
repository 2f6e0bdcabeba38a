from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sightx import ResourceError, load
from sightx.run_registry.find import find_run
from sightx.runs import directory
from sightx.runs.creation import create_run
from sightx.runs.lookup import list_runs


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> directory.Run:
    return create_run(tmp_path / "runs", load(spec), {"device": "cpu"})


def test_a_run_is_named_by_time_experiment_and_hash(run: directory.Run, spec: Path) -> None:
    date, time, *name, digest = run.id.split("-")
    assert (len(date), len(time), name) == (8, 6, ["little"])
    assert load(spec).id.startswith(digest)


def test_runs_of_one_second_get_separate_directories(spec: Path, tmp_path: Path) -> None:
    experiment = load(spec)
    with ThreadPoolExecutor(8) as pool:
        runs = pool.map(lambda _: create_run(tmp_path / "r", experiment, {}), range(50))
    assert len({run.id for run in runs}) == 50


def test_temporary_directories_of_a_crash_are_removed_after_a_day(
    spec: Path, tmp_path: Path
) -> None:  # R09
    root, day = tmp_path / "runs", 24 * 3600
    start, end = ".making-20260101-000000-little-012345-", "89abcde"
    left = {f"{start}0{end}": 1.1 * day, f"{start}1{end}": 0.5 * day}
    mine = [".making-mine/experiment.toml", f"{start}2{end}/diary.txt", ".making-notes/x"]
    for name in left:
        (root / name / "inputs").mkdir(parents=True)
        (root / name / "spec.toml").touch()
    for name in mine:
        (root / name).parent.mkdir()
        (root / name).write_text("mine")
    for path in root.iterdir():
        os.utime(path, (time.time() - left.get(path.name, 2 * day),) * 2)
    (root / f"{start}3{end}").symlink_to(root / ".making-notes")

    create_run(root, load(spec), {})

    kept = {path.name for path in root.glob(".making-*")}
    assert kept == {f"{start}{number}{end}" for number in (1, 2, 3)} | {
        ".making-mine", ".making-notes"
    }  # fmt: skip
    assert all((root / name).read_text() == "mine" for name in mine)


def test_a_folder_that_cannot_be_created_is_exit_7(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError) as caught:
        create_run(tmp_path / "file" / "runs", load(spec), {})
    assert caught.value.exit_code == 7
    assert "\n" not in str(caught.value)


def test_last_is_the_newest_run_even_if_the_clock_was_set_back(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    first = create_run(root, load(spec), {})
    hour_ago = time.localtime(time.time() - 3600)
    strftime = time.strftime
    monkeypatch.setattr(time, "strftime", lambda text, at=hour_ago: strftime(text, at))
    second = create_run(root, load(spec), {})
    third = create_run(root, load(spec), {})

    assert [run.id for run in list_runs(root)] == [first.id, second.id, third.id]
    assert find_run(root, "last")[0].id == third.id
