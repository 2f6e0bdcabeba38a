from __future__ import annotations

from pathlib import Path

import pytest

from sightx import RunError, SpecError
from sightx.runs.index import find, runs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "20260101-000000-a-111111",
        "20260102-000000-a-222222",
        "20260103-000000-b-111111",
    ):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "experiment.toml").write_text("")
    (tmp_path / "runs" / "no-run").mkdir()
    return tmp_path / "runs"


def test_runs_are_listed_from_the_oldest_without_strangers(root: Path) -> None:
    assert [run.id[:8] for run in runs(root)] == ["20260101", "20260102", "20260103"]
    assert runs(root / "none") == []


@pytest.mark.parametrize(
    ("text", "start", "checkpoint"),
    [("last", "20260103", ""), ("20260102", "20260102", ""), ("last@best", "20260103", "best"),
     ("20260101-000000-a-111111", "20260101", "")],
)  # fmt: skip
def test_id_prefix_last_and_checkpoint(root: Path, text: str, start: str, checkpoint: str) -> None:
    run, name = find(root, text)
    assert run.id.startswith(start)
    assert name == checkpoint


def test_a_path_is_opened_as_it_is(root: Path) -> None:
    run, _ = find(Path("elsewhere"), str(root / "20260101-000000-a-111111"))
    assert run.id.startswith("20260101")


def test_an_ambiguous_prefix_lists_what_it_begins(root: Path) -> None:
    with pytest.raises(RunError, match="begins 3 runs; 20260101"):
        find(root, "2026")


@pytest.mark.parametrize("text", ["nothing", "../no-run", "no-run"])
def test_what_is_no_run_is_exit_5(root: Path, text: str) -> None:
    with pytest.raises(RunError):
        find(root, text)


@pytest.mark.parametrize("text", ["", "\0", "x" * 300])
def test_what_cannot_be_a_name_is_exit_2(root: Path, text: str) -> None:
    with pytest.raises(SpecError):
        find(root, text)
