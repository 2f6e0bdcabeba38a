"""What RUN means in the registry: also `best:KEY` and tags, and in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import sightx
from sightx import Run
from sightx.errors import RunError, SpecError
from sightx.run_registry.about import change_about
from sightx.run_registry.find import find_directory, locate_run
from support.run_folders import write_run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, accuracy in enumerate((0.5, 0.9, 0.7)):
        metrics = {"validation/accuracy": accuracy, "validation/loss": 1 - accuracy}
        write_run(tmp_path, f"a{number}", {"seed": number}, metrics)
    write_run(tmp_path, "b", {}, {"validation/accuracy": 1.0}, status="failed")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "checkpoint"),
    [
        ("best:validation/accuracy", "a1", ""),
        ("best:accuracy@last", "a1", "last"),
        ("best:loss", "a1", ""),
        ("best:accuracy[seed != 1]", "a2", ""),
        ("best:accuracy[seed != 1]@best", "a2", "best"),
        ("20260131-a0", "a0", ""),
        ("last@x", "b", "x"),
    ],
)
def test_a_run_is_found(root: Path, text: str, name: str, checkpoint: str) -> None:
    write_run(root, "b-last", {}, {"validation/accuracy": 0.0, "validation/loss": 9.0})
    name = "b-last" if name == "b" else name
    assert find_directory(root, text) == (root / f"20260131-{name}", checkpoint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best:test/accuracy", "choosing a run by test/accuracy makes its test metrics too good"),
        ("best:acuracy", "no run has 'acuracy'; did you mean"),
        ("best:seed", "seed is not a metric"),
        ("best:", "'best:' is not the name of a run"),
        ("best:loss[seed = ]", "a value is missing before the end"),
    ],
)
def test_a_name_that_is_none_is_refused(root: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        find_directory(root, text)
    assert message in str(caught.value)


def test_without_a_matching_run_there_is_no_best_one(root: Path) -> None:
    with pytest.raises(RunError, match="no finished run has validation/loss"):
        find_directory(root, "best:loss[seed > 7]")


def test_a_tag_names_its_only_run(root: Path) -> None:
    first, second = sorted(root.glob("*-a[01]"))
    change_about(first, ["+candidate"])
    assert find_directory(root, "@candidate") == (first, "")
    assert find_directory(root, "@candidate@last") == (first, "last")
    with pytest.raises(RunError, match=r"no run 'candidate' .*; it is a tag: @candidate"):
        find_directory(root, "candidate")
    change_about(second, ["+candidate"])
    with pytest.raises(RunError, match=f"'candidate' is a tag of 2 runs, .* is {second.name}"):
        find_directory(root, "@candidate")
    with pytest.raises(RunError, match=r"has the tag 'old'; sightx tag RUN \+old adds it"):
        find_directory(root, "@old")


def test_python_takes_what_commands_take(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = root.parent / "project"
    (project / "runs").mkdir(parents=True)
    run = write_run(project / "runs", "120000-retina-3f9a1c", {}, {"validation/accuracy": 0.5})
    change_about(run, ["+candidate"])
    monkeypatch.chdir(project)
    texts = ("last", "retina", "3f9a", run.name, f"runs/{run.name}", str(run), "@candidate")
    for text in (*texts, "best:validation/accuracy", run, Path("runs", run.name), Run(run)):
        assert sightx.open_run(text).id == run.name
    assert sightx.open_run("last", runs=root).id == "20260131-a2"
    assert locate_run("retina@best")[1] == locate_run(f"runs/{run.name}@best")[1] == "best"
    monkeypatch.chdir("runs")
    assert sightx.open_run(run.name).id == run.name  # a directory of that name
    for text in ("none", "runs/none", Path("last")):
        with pytest.raises(RunError):
            sightx.open_run(text)
