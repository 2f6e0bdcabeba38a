from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightx.runs import lookup
from support.commands import sightx_main

STOP = '''
import signal
from sightx.plugin import Observer, hookimpl

class Stop(Observer):
    """Send SIGTERM after a step, unless the run was resumed."""

    name = "test-stop"
    step: int

    def build(self, run):
        return self if not run.environment.get("resumes") else Silent()

    @hookimpl
    def sightx_step_finished(self, step):
        if step.step == self.step:
            signal.raise_signal(signal.SIGTERM)

class Silent:
    @hookimpl
    def sightx_run_finished(self):
        pass

@hookimpl
def sightx_components():
    return [Stop]
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stop")
    (folder / "test_stop_observer.py").write_text(STOP)
    return folder


@pytest.fixture
def stopping(spec: Path, plugin: Path, tmp_path: Path) -> list[str]:
    """Arguments of `run` or `resume` in a project whose runs stop after step 4."""
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{plugin}"]\n')
    stop = 'observer=[{use="test-stop", step=4}]'
    return ["--runs", str(tmp_path / "runs"), "--set", stop]


def test_a_stopped_run_prints_how_to_resume_it(
    spec: Path, stopping: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("run", str(spec), *stopping) == 143
    out = capsys.readouterr().out
    (run,) = lookup.list_runs(Path(stopping[1]))
    assert (run.result["status"], run.result["exit"]) == ("interrupted", 143)
    assert out.rstrip().endswith(f"saved; next: sightx resume {run.directory}")
    assert sightx_main("resume", run.id[:20], *stopping[:2]) == 0
    out, err = capsys.readouterr()
    assert "resumed after step 4" in out
    assert not re.search(r"^\s+1  ", out, re.MULTILINE)  # the first epoch was over
    assert re.search(r"^\s+2  ", out, re.MULTILINE)
    assert [line for line in err.splitlines() if not line.startswith("pixels:")] == []
    assert sightx_main("resume", "last", *stopping[:2], "--quiet") == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{run.directory}\n", f"{run.id} is finished\n")


def test_differences_are_printed_and_refused_ones_are_exit_5(
    spec: Path, stopping: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sightx_main("run", str(spec), *stopping)
    capsys.readouterr()
    last = ["resume", "last", *stopping[:2], "--set"]
    assert sightx_main(*last, "optimizer.lr=0.5") == 5
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error[drift] optimizer.lr: 0.001 then, 0.5 now; "
        "it is another experiment: sightx run starts it"
    ]
    assert sightx_main(*last, "execution.threads=2") == 0
    (run,) = lookup.list_runs(Path(stopping[1]))
    assert f"{run.id}: execution.threads: 0 then, 2 now (harmless)" in capsys.readouterr().err


def test_continue_can_be_called_again_and_again(
    spec: Path, stopping: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(spec), *stopping, "--continue", "--quiet"]
    assert [sightx_main(*words) for _ in range(3)] == [143, 0, 0]
    out, err = capsys.readouterr()
    assert len(set(out.splitlines())) == 1
    assert "is finished" in err


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["resume", "last"], 5, "no run 'last'"),
        (["resume", "x", "--steps", "2"], 2, "--steps"),
        (["resume", "x", "--steps", "20"], 2, "--steps says how many steps --verify trains"),
        (["resume", "x", "--verify", "--processes", "2"], 2, "leave --processes out"),
        (["resume", "nowhere.toml", "--verify"], 5, "no run 'nowhere.toml'"),
    ],
)
def test_a_run_that_cannot_be_resumed_is_one_line(
    words: list[str], code: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main(*words, "--runs", str(tmp_path)) == code
    (error,) = capsys.readouterr().err.splitlines()
    assert line in error
