from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightx import RunError, SpecError
from sightx.run_registry.find import find_run
from sightx.runs.lookup import list_runs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "20260101-000000-a-111111",
        "20260102-000000-a-222222",
        "20260103-000000-b-111111",
    ):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "experiment.toml").write_text("")
    (tmp_path / "runs" / "not-a-run").mkdir()
    return tmp_path / "runs"


def test_runs_are_listed_from_the_oldest_without_other_folders(root: Path) -> None:
    assert [run.id[:8] for run in list_runs(root)] == ["20260101", "20260102", "20260103"]
    assert list_runs(root / "none") == []


@pytest.mark.parametrize(
    ("text", "start", "checkpoint"),
    [("last", "20260103", ""), ("20260102", "20260102", ""), ("last@best", "20260103", "best"),
     ("20260101-000000-a-111111", "20260101", ""), ("222222", "20260102", ""),
     ("b-111111@best", "20260103", "best"), ("2222", "20260102", ""), ("b", "20260103", ""),
     ("b@best", "20260103", "best")],
)  # fmt: skip
def test_an_id_a_prefix_or_last_with_a_checkpoint(
    root: Path, text: str, start: str, checkpoint: str
) -> None:
    run, name = find_run(root, text)
    assert run.id.startswith(start)
    assert name == checkpoint


def test_a_path_is_opened_as_it_is(root: Path) -> None:
    run, _ = find_run(Path("elsewhere"), str(root / "20260101-000000-a-111111"))
    assert run.id.startswith("20260101")


def test_an_ambiguous_prefix_lists_its_runs(root: Path) -> None:
    ids = "20260103-000000-b-111111, 20260102-000000-a-222222, 20260101-000000-a-111111"
    with pytest.raises(RunError, match=f"3 runs begin with '2026'; write the whole id: {ids}$"):
        find_run(root, "2026")
    with pytest.raises(RunError, match="2 runs end with '111111'; write the whole id: 20260103"):
        find_run(root, "111111")
    with pytest.raises(RunError, match="2 runs have a hash with '1111'; write the whole id: 2026"):
        find_run(root, "1111")


def test_the_name_of_several_runs_names_the_newest_and_lists_them(root: Path) -> None:
    newest = "20260102-000000-a-222222"
    with pytest.raises(RunError) as e:
        find_run(root, "a")
    assert f"'a' is the name of 2 runs, the newest is {newest}; " in str(e.value)
    assert f"sightx list-runs name=a --runs {root} lists them" in str(e.value)


def test_a_misspelt_name_gets_a_proposal(root: Path) -> None:
    experiment = root / "20260104-000000-retina-333333"
    experiment.mkdir()
    (experiment / "experiment.toml").write_text("")
    with pytest.raises(RunError, match=r"no run 'retnia' below .*; did you mean 'retina'"):
        find_run(root, "retnia")


@pytest.mark.parametrize("text", ["nothing", "not-a-run"])
def test_a_run_that_does_not_exist_is_exit_5(root: Path, text: str) -> None:
    with pytest.raises(RunError):
        find_run(root, text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../x", "a/b", "./", "a\0b", "x" * 300, "../not-a-run", "/etc"]
)
def test_a_text_that_cannot_be_a_name_is_exit_2(root: Path, text: str) -> None:  # R04
    with pytest.raises(SpecError) as caught:
        find_run(root, text)
    assert caught.value.exit_code == 2
    assert "is not the name of a run" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_a_run_names_the_run(root: Path) -> None:
    run = root / "20260101-000000-a-111111"
    file = run / "checkpoints" / "step-00000001" / "optimizer.safetensors"
    with pytest.raises(SpecError, match=f"it lies in a run: give {run}"):
        find_run(root, str(file))


def test_a_link_out_of_the_folder_is_not_one_of_its_runs(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "20260104-000000-c-333333"
    outside.mkdir(parents=True)
    (outside / "experiment.toml").write_text("")
    (root / outside.name).symlink_to(outside)
    for text in ("20260104", "last", outside.name):
        with pytest.raises(SpecError, match=r"it is a link out of .*: give its path"):
            find_run(root, text)
    assert find_run(root, str(outside))[0].directory == outside


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert find_run(tmp_path / "link", "20260101")[0].id.startswith("20260101")


def test_the_last_of_several_runs_of_one_second_has_the_highest_number(root: Path) -> None:
    for number in (10, 9):
        folder = root / f"20260103-000000-b-111111-{number}"
        folder.mkdir()
        (folder / "experiment.toml").write_text("")
    assert find_run(root, "last")[0].id.endswith("-10")


def write_result(run: Path, status: str) -> None:
    (run / "result.json").write_text(json.dumps({"status": status}), encoding="utf-8")


@pytest.mark.parametrize(
    ("status", "has_state", "start"),
    [("failed", False, "20260102"), ("failed", True, "20260103"),
     ("interrupted", False, "20260103"), ("finished", False, "20260103")],
)  # fmt: skip
def test_last_skips_a_run_that_failed_before_its_first_checkpoint(
    root: Path, status: str, has_state: bool, start: str
) -> None:
    newest = next(root.glob("20260103*"))
    write_result(newest, status)
    if has_state:
        (newest / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert find_run(root, "last")[0].id.startswith(start)
    assert find_run(root, newest.name)[0].id == newest.name  # its own name still works


def test_a_name_skips_runs_that_failed_before_their_first_checkpoint(root: Path) -> None:
    older, newer = sorted(root.glob("2026*-a-*"))
    write_result(newer, "failed")
    run, checkpoint = find_run(root, "a@best")
    assert (run.id, checkpoint) == (older.name, "best")
    write_result(older, "failed")  # there is no other: the name keeps its meaning
    with pytest.raises(RunError, match=f"'a' is the name of 2 runs, the newest is {newer.name}"):
        find_run(root, "a")


def test_if_all_runs_failed_the_error_names_the_newest(root: Path) -> None:
    for run in root.glob("2026*"):
        write_result(run, "failed")
    with pytest.raises(RunError, match=r"the newest run failed before its .*20260103-000000-b-1"):
        find_run(root, "last")


def test_a_damaged_result_does_not_hide_other_runs(root: Path) -> None:
    (next(root.glob("20260103*")) / "result.json").write_text("{", encoding="utf-8")
    assert find_run(root, "last")[0].id.startswith("20260103")
    assert find_run(root, "20260101")[0].id.startswith("20260101")


def test_last_is_the_newest_run_even_without_a_checkpoint(root: Path) -> None:
    older = next(root.glob("20260102*")) / "checkpoints"
    older.mkdir()
    (older / "names.json").write_text('{"last": "step-00000001"}')
    assert find_run(root, "last")[0].id.startswith("20260103")
