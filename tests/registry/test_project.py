# ruff: noqa: E501 - lines of output are not broken
from __future__ import annotations

from pathlib import Path

import pytest

from sightx import SightXError, SpecError
from sightx.io.toml import Position
from sightx.registry import project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a folder of specs; the working directory is elsewhere."""
    (tmp_path / "project" / "specs").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "project"


def test_the_nearest_pyproject_with_the_table_is_the_project(root: Path) -> None:
    (root / "pyproject.toml").write_text(
        '[tool.sightx]\nplugins = ["mine", "/abs"]\nobservers = ["curves"]\nruns = "out"\n'
    )
    (root / "specs" / "pyproject.toml").write_text("[tool.other]\na = 2026-01-01\n")
    settings = project.find_project(root / "specs")
    assert settings.root == root
    assert settings.plugins == (root / "mine", Path("/abs"))
    assert settings.runs == root / "out"
    place = Position(str(root / "pyproject.toml"), 3, 14)
    assert settings.observers == {"curves": place}


def test_without_a_project_the_folder_is_the_root_and_runs_are_in_the_working_directory(
    root: Path, tmp_path: Path
) -> None:
    settings = project.find_project(root / "specs")
    assert (settings.root, settings.plugins) == (root / "specs", ())
    assert settings.runs == tmp_path / "elsewhere" / "runs"


def test_the_local_file_sets_places_execution_and_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "pyproject.toml").write_text('[tool.sightx]\nruns = "out"\n')
    (root / "sightx.local.toml").write_text(
        'runs = "/big/runs"\n[places]\nfar = "/data/far"\nnear = "data/near"\nhome = "~/d"\n'
        '[execution]\ndevice = "cpu"\n'
    )
    monkeypatch.setenv("HOME", "/home/me")
    settings = project.find_project(root / "specs")
    assert settings.runs == Path("/big/runs")
    assert settings.place("far") == Path("/data/far")
    assert settings.place("near") == root / "data" / "near"
    assert settings.place("home") == Path("/home/me/d")
    assert settings.place("none") is None
    assert settings.defaults.data == {"execution": {"device": "cpu"}}


def test_a_variable_wins_over_the_local_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (root / "sightx.local.toml").write_text('[places]\nmy-data = "/old"\n')
    monkeypatch.setenv("SIGHTX_PLACE_MY_DATA", "new")
    assert project.place_variable("my-data") == "SIGHTX_PLACE_MY_DATA"
    assert project.find_project(root).place("my-data") == tmp_path / "elsewhere" / "new"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("pyproject.toml", '[tool.sightx]\nplugin = ["a"]\n', "2:1: error[unknown-key] plugin: unknown key; did you mean 'plugins'?"),
        ("pyproject.toml", '[tool.sightx]\nplugins = "a"\n', "2:1: error[wrong-type] plugins: 'a' is a string, expected an array"),
        ("pyproject.toml", "[tool.sightx]\nplugins = [3]\n", "2:12: error[wrong-type] plugins.0: 3 is an integer, expected a string"),
        ("pyproject.toml", "[tool]\nsightx = 3\n", "2:1: error[wrong-type] 3 is an integer, expected a table"),
        ("pyproject.toml", "[tool.sightx\n", "1:13: error[syntax] Expected ']' at the end of a table declaration; write [section] or [[section]]"),
        ("sightx.local.toml", "runs = 3\n", "1:1: error[wrong-type] runs: 3 is an integer, expected a string"),
        ("sightx.local.toml", "[place]\na = 3\n", "1:2: error[unknown-key] place: unknown key; did you mean 'places'?"),
        ("sightx.local.toml", "[places]\nx = 'a'\ny = 3\n", "3:1: error[wrong-type] places.y: 3 is an integer, expected a string"),
        ("sightx.local.toml", "places = 3\n", "1:1: error[wrong-type] places: 3 is an integer, expected a table"),
        ("sightx.local.toml", "execution = 'cpu'\n", "1:1: error[wrong-type] execution: 'cpu' is a string, expected a table"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line_with_a_position(
    root: Path, name: str, text: str, line: str
) -> None:
    (root / name).write_text(text)
    with pytest.raises(SpecError) as caught:
        project.find_project(root)
    assert str(caught.value) == f"{root / name}:{line}"


def test_a_pyproject_without_the_table_is_ignored(root: Path) -> None:
    for text in ("tool = 3\n", "[build-system]\n", ""):
        (root / "pyproject.toml").write_text(text)
        assert project.find_project(root).plugins == ()


def test_all_problems_of_a_file_are_reported(root: Path) -> None:
    (root / "sightx.local.toml").write_text("a = 1\nruns = 2\n")
    with pytest.raises(SightXError) as caught:
        project.find_project(root)
    assert [problem.line for problem in caught.value.problems] == [1, 2]
