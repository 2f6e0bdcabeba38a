from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sightx import PluginError, SpecError, load
from sightx.spec.load import examine

GRADED = 'name = "a"\n[model]\nuse = "simplenet"\n[dataset]\nuse = "synthetic-fundus"\n'


@pytest.fixture
def plugin(working_folder: Path) -> Iterator[Callable[[str], None]]:
    """Write a plugin of the project."""
    before = set(sys.modules), list(sys.path)

    def write(text: str) -> None:
        (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
        (working_folder / "mine").mkdir()
        (working_folder / "mine" / "sightx_test_mine.py").write_text(text)

    yield write
    sys.path[:] = before[1]
    for name in set(sys.modules) - before[0]:
        if name.startswith("sightx_test_"):
            del sys.modules[name]


def lines_of(text: str, working_folder: Path, *overrides: str) -> list[str]:
    (working_folder / "a.toml").write_text(text)
    return [str(problem) for problem in examine("a.toml", overrides).problems]


def test_examining_a_valid_spec_returns_its_experiment(resolve, working_folder: Path) -> None:
    experiment = resolve(GRADED, "seed=3")
    examined = examine("a.toml", ["seed=3"])
    assert examined.experiment == experiment
    assert examined.experiment.context.overrides == ("seed=3",)
    assert (examined.problems, examined.failure, examined.cause) == ((), None, None)


def test_examine_does_not_raise(working_folder: Path) -> None:
    for name, text in {"a.toml": "x = ", "b.toml": "", "c.toml": "seed = -1"}.items():
        (working_folder / name).write_text(text)
        examined = examine(name)
        assert examined.experiment is None
        assert isinstance(examined.failure, SpecError)
        assert {problem.file for problem in examined.problems} == {name}
    (problem,) = examine("none.toml").problems
    assert problem.code == "unreadable"


def test_findings_of_checks_are_returned_with_the_experiment(working_folder: Path) -> None:
    text = GRADED + (
        '[training]\nmonitor = "validation/qkw"\nepochs = 5\n'
        '[scheduler]\nuse = "step"\nstep_size = 7\n'
    )
    (working_folder / "a.toml").write_text(text)
    examined = examine("a.toml")
    assert examined.experiment is not None
    assert [(p.line, p.severity, p.code) for p in examined.problems] == [
        (7, "error", "unknown-monitor"),
        (11, "warning", "step-unreached"),
    ]
    assert [problem.code for problem in examined.failure.problems] == ["unknown-monitor"]
    with pytest.raises(SpecError, match="unknown-monitor") as caught:
        load("a.toml")
    assert len(caught.value.problems) == 1


def test_checks_also_run_on_a_spec_with_errors(working_folder: Path) -> None:
    text = GRADED + '[training]\nmonitor = "validation/qkw"\nepochs = 0\n'
    codes_of_lines = [line.split()[1] for line in lines_of(text, working_folder)]
    assert codes_of_lines == ["error[unknown-monitor]", "error[invalid-value]"]


def test_an_unknown_code_in_allow_is_a_warning(working_folder: Path) -> None:
    text = 'allow = ["step-unreachd", "group-leak", "xyzzy", "broken-plugin"]\n' + GRADED
    assert lines_of(text, working_folder) == [
        "a.toml:1:10: warning[unknown-code] allow.0: 'step-unreachd' is not the code of a check; "
        "did you mean 'step-unreached'?",
        "a.toml:1:27: warning[unknown-code] allow.1: 'group-leak' is the code of an error, which "
        "cannot be allowed; sightx validate --explain list shows all codes",
        "a.toml:1:41: warning[unknown-code] allow.2: 'xyzzy' is not the code of a check; "
        "sightx validate --explain list shows all codes",
    ]
    assert lines_of('allow = ["xyzzy", "unknown-code"]\n' + GRADED, working_folder) == []


def test_broken_plugins_are_warnings_also_next_to_errors(
    working_folder: Path, plugin, caplog
) -> None:
    plugin("raise RuntimeError('boom')")
    first, *rest = lines_of(GRADED, working_folder)
    assert first.startswith("warning[broken-plugin] plugin sightx_test_mine at ")
    assert rest == []
    assert lines_of(GRADED + "sed = 1\n", working_folder)[0] == first
    assert lines_of('allow = ["broken-plugin"]\n' + GRADED, working_folder) == []
    load("a.toml")
    assert caplog.messages == []
    lines_of(GRADED, working_folder)
    load("a.toml")
    assert caplog.messages == [first]


def test_a_check_that_fails_is_a_problem_of_the_plugin(working_folder: Path, plugin) -> None:
    plugin(
        "from sightx.plugin import Check, hookimpl\n@hookimpl\ndef sightx_checks():\n"
        "    return [Check('bad', 'r', lambda experiment: 1 / 0)]\n"
    )
    (line,) = lines_of(GRADED, working_folder)
    place = f"{working_folder / 'mine' / 'sightx_test_mine.py'}:4: "
    assert line.startswith(
        f"{place}error[broken-plugin] the check 'bad' of sightx_test_mine failed: Zero"
    )
    examined = examine("a.toml")
    assert examined.failure.exit_code == 4
    with pytest.raises(PluginError):
        load("a.toml")


PARTLY_WRONG = """
name = "a"
[dataset]
use = "synthetic-fundus"
{dataset}
[model]
use = "torchvision"
arch = "resnet19"
[scheduler]
use = "step"
step_size = 30
warmup = 99.0
{scheduler}
[training]
monitor = "validation/qwq"
"""


def codes(tmp_path: Path, dataset: str = "", scheduler: str = "") -> list[str]:
    path = tmp_path / "a.toml"
    path.write_text(PARTLY_WRONG.format(dataset=dataset, scheduler=scheduler))
    return [problem.code for problem in examine(path).problems]


FOUND = ["unknown-arch", "step-unreached", "long-warmup", "unknown-monitor"]


def test_an_error_does_not_hide_findings_of_checks(tmp_path: Path) -> None:
    assert codes(tmp_path) == FOUND
    assert codes(tmp_path, scheduler="gama = 0.5") == [*FOUND[:3], "unknown-key", FOUND[3]]


@pytest.mark.parametrize("dataset", ["patients = 3", "pacients = 30"])
def test_defaults_that_depend_on_a_wrong_section_are_not_checked(
    tmp_path: Path, dataset: str
) -> None:
    reported = codes(tmp_path, dataset=dataset)
    assert "groups-divided" not in reported
    assert set(FOUND) - {"unknown-monitor"} <= set(reported)


def test_a_section_with_an_unknown_component_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    text = PARTLY_WRONG.format(dataset="", scheduler="").replace('use = "step"', 'use = "stepp"')
    path.write_text(text)
    reported = [problem.code for problem in examine(path).problems]
    assert reported == ["unknown-arch", "unknown-name", "unknown-monitor"]


def test_without_a_dataset_no_check_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\n[model]\nuse = "torchvision"\narch = "resnet19"\n')
    reported = [problem.code for problem in examine(path).problems]
    assert reported == ["missing-section", "unknown-arch"]
