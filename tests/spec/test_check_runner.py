from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sightx import DataError, Experiment, PluginError, ResourceError, SpecError, load
from sightx.plugin import Problem
from sightx.spec import check_runner

PLUGIN = "sightx_test_rules"
SPEC = """\
name = "a"
allow = [{allow}]
[dataset]
use = "synthetic-fundus"
[model]
use = "simplenet"
[[augment]]
use = "flip"
[[augment]]
use = "rotate"
degrees = 3
"""

RULES = """
from sightx import DataError
from sightx.plugin import Check, Finding, Problem, hookimpl

def of_spec(experiment):
    yield Finding("augment.1.degrees", f"{experiment.augment[1].degrees} is odd", "take 4")

def of_data(experiment, table):
    yield Finding("dataset", f"{experiment.name} has {table}")

def of_device(device):
    return [Finding("execution.device", f"it is {device}")]

def warns():
    return (Finding(path, "beware") for path in ("model", "optimizer.lr", "nothing.here"))

def fails(table=None):
    yield Finding("model", "found before it fails")
    raise KeyError("k")

def raises():
    raise DataError(Problem("no-cats", "raised by itself"))

RULES = {
    "odd": Check("odd", "odd angles", of_spec),
    "many": Check("many", "too many", of_data, stage="data"),
    "which": Check("which", "not this one", of_device, stage="device"),
    "careful": Check("careful", "be careful", warns, severity="warning"),
    "fails": Check("fails", "it fails", fails, stage="data"),
    "raises": Check("raises", "it raises", raises, stage="data"),
    "shaky": Check("shaky", "it may fail", fails, stage="data", severity="warning"),
}

@hookimpl
def sightx_checks():
    return [RULES[code] for code in CODES]
"""


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """Load a spec of a project whose plugin provides the named checks; drop the built-in ones."""
    before = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)

    def call(*names: str, allow: str = "") -> Experiment:
        (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["rules"]\n')
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules" / f"{PLUGIN}.py").write_text(f"CODES = {names}\n{RULES}")
        (tmp_path / "a.toml").write_text(SPEC.format(allow=allow))
        loaded = load("a.toml")
        registered = loaded.context.registry.checks
        registered[:] = [(check, plugin) for check, plugin in registered if plugin.name == PLUGIN]
        return loaded

    yield call
    sys.path[:] = before[1]
    for name in set(sys.modules) - before[0]:
        if name.startswith("sightx_test_"):
            del sys.modules[name]


def lines(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems]


def test_a_finding_fails_the_spec_at_its_position(experiment) -> None:
    with pytest.raises(SpecError) as caught:
        experiment("odd")
    line = "a.toml:11:1: error[odd] augment.1.degrees: 3.0 is odd; take 4"
    assert str(caught.value) == line


def test_warnings_are_logged_with_the_nearest_position(experiment, caplog) -> None:
    with caplog.at_level(logging.WARNING, "sightx"):
        loaded = experiment("careful")
    expected = [
        "a.toml:1:1: warning[careful] optimizer.lr: beware",
        "a.toml:1:1: warning[careful] nothing.here: beware",
        "a.toml:5:2: warning[careful] model: beware",
    ]
    assert caplog.messages == expected
    problems = check_runner.run_checks(loaded, loaded.context, "spec")
    assert sorted(lines(problems)) == sorted(expected)


def test_each_stage_runs_its_checks_with_the_arguments_they_declare(experiment) -> None:
    loaded = experiment("careful", "many", "which")
    assert lines(check_runner.run_checks(loaded, loaded.context, "data", table="a table")) == [
        "a.toml:3:2: error[many] dataset: a has a table"
    ]
    assert lines(
        check_runner.run_checks(loaded, loaded.context, "device", table="a table", device="cpu")
    ) == ["a.toml:1:1: error[which] execution.device: it is cpu"]


@pytest.mark.parametrize(
    ("code", "stage", "error"), [("many", "data", DataError), ("which", "device", ResourceError)]
)
def test_the_errors_of_a_stage_have_its_exit_code(experiment, code, stage, error) -> None:
    loaded = experiment(code)
    with pytest.raises(error) as caught:
        check_runner.enforce_checks(loaded, loaded.context, stage, table="t", device="cpu")
    assert [problem.code for problem in caught.value.problems] == [code]


def test_an_allowed_warning_is_not_reported(experiment, caplog) -> None:
    loaded = experiment("careful", "many", allow='"careful", "many"')
    assert lines(check_runner.run_checks(loaded, loaded.context, "spec")) == []
    assert [m for m in caplog.messages if "unknown-code" not in m] == []
    assert "is the code of an error, which cannot be allowed" in caplog.text
    # An error cannot be allowed.
    assert [p.code for p in check_runner.run_checks(loaded, loaded.context, "data", table="t")] == [
        "many"
    ]


def test_a_check_that_fails_names_itself_and_its_plugin(experiment) -> None:
    loaded = experiment("fails")
    problems = check_runner.run_checks(loaded, loaded.context, "data", table="a table")
    problem = next(problem for problem in problems if problem.code == "broken-plugin")
    assert problem.message == "the check 'fails' of sightx_test_rules failed: KeyError: 'k'"
    line = Path(problem.file).read_text().splitlines()[problem.line - 1]
    assert line.strip() == 'raise KeyError("k")'
    with pytest.raises(PluginError) as caught:
        check_runner.enforce_checks(loaded, loaded.context, "data", table="a table")
    assert caught.value.exit_code == 4


def test_a_check_for_warnings_that_fails_is_a_warning_and_the_spec_goes_on(experiment) -> None:
    loaded = experiment("shaky")
    problems = check_runner.run_checks(loaded, loaded.context, "data", table="a table")
    assert [(p.code, p.severity) for p in problems] == [("broken-plugin", "warning")]
    check_runner.enforce_checks(loaded, loaded.context, "data", table="a table")


def test_a_check_may_raise_an_expected_error(experiment) -> None:
    loaded = experiment("raises")
    with pytest.raises(DataError, match="raised by itself"):
        check_runner.enforce_checks(loaded, loaded.context, "data", table="a table")


HOSTILE = """
from sightx.plugin import Metric, hookimpl

class Nothing(Metric):
    \"\"\"A metric without names.\"\"\"

    name = "nothing"

    def values(self, classes):
        return None

    def compute(self, predictions):
        return {}

@hookimpl
def sightx_components():
    return [Nothing]
"""


def test_a_wrong_answer_of_a_plugin_is_not_blamed_on_the_check_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["rules"]\n')
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "sightx_test_nothing.py").write_text(HOSTILE)
    (tmp_path / "a.toml").write_text(SPEC.format(allow="") + '[[metric]]\nuse = "nothing"\n')
    with pytest.raises(PluginError) as caught:
        load("a.toml")
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("wrong-result", "metric")
    assert "values() of nothing (sightx_test_nothing) returned None" in problem.message
    raising = HOSTILE.replace("return None", "return [][1]").replace("nothing", "raising")
    (tmp_path / "rules" / "sightx_test_nothing.py").unlink()
    (tmp_path / "rules" / "sightx_test_raising.py").write_text(raising)
    (tmp_path / "a.toml").write_text(SPEC.format(allow="") + '[[metric]]\nuse = "raising"\n')
    with pytest.raises(PluginError, match=r"raising\.py:\d+: .*failed in values: IndexError"):
        load("a.toml")
