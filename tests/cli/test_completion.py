"""Completion as a real bash asks for it, through the script that `sightx` prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightx.cli.main import COMMANDS
from support.commands import sightx_main
from support.run_folders import write_run

Ask = Callable[[str], list[str]]
# What bash does at a Tab: it calls the function of the script with the line and the cursor.
SCRIPT = """
compopt() { echo "compopt $1 $2"; }
complete() { :; }
eval "$SOURCE"
COMP_LINE=$1
COMP_POINT=${#1}
_sightx_completion sightx
printf '%s\\n' "${COMPREPLY[@]}"
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture
def ask(tmp_path: Path, cache_root: Path) -> Ask:
    """Return what bash would propose for a line, in a project with two runs."""
    folder = tmp_path / "project"
    write_run(folder / "runs", "a", {"seed": 0})
    write_run(folder / "runs", "b", {"seed": 1})
    (folder / "pyproject.toml").write_text("[tool.sightx]\n")
    command = tmp_path / "bin" / "sightx"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sightx "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    source = subprocess.run(
        [str(command)],
        check=True, capture_output=True, text=True,
        env={**os.environ, "_SIGHTX_COMPLETE": "bash_source"},
    ).stdout  # fmt: skip

    def call(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", SCRIPT, "bash", line],
            cwd=folder, capture_output=True, text=True, check=True,
            env={**os.environ, "PATH": path, "SOURCE": source},
        )  # fmt: skip
        assert done.stderr == ""
        return list(filter(None, done.stdout.splitlines()))

    return call


def test_commands_options_runs_components_and_keys_are_completed(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(COMMANDS) <= set(ask("sightx "))
    assert ask("sightx list-") == ["list-plugins", "list-runs"]
    assert ask("sightx diff --ex") == ["--exit-code"]
    runs = ["20260131-b", "20260131-a"]
    assert ask("sightx show-run ") == ["last", "best:", *runs]
    assert ask(f"sightx diff {runs[0]} 2026") == runs
    assert ask("sightx run --again 20260131-a") == ["20260131-a"]
    assert "resnet50" in ask("sightx show-plugin model ")
    assert ask("sightx show-plugin trai") == ["training"]
    # `KEY=` is followed by no space, and bash replaces only what stands behind `=`.
    assert ask("sightx run spec.toml --set training.ep") == [
        "compopt -o nospace",
        "training.epochs=",
    ]
    assert ask("sightx run spec.toml --set model.use=resnet5") == ["resnet50"]
    assert ask("sightx run --set execution.deterministic=t") == ["true"]
    # Keys of runs come from the index, which listing them makes.
    assert ask("sightx list-runs --sort validation/acc") == []
    folder = tmp_path / "project" / "runs"
    sightx_main("list-runs", "--runs", str(folder))
    capsys.readouterr()
    assert ask("sightx list-runs --sort validation/acc") == ["validation/accuracy"]
    assert ask("sightx show-run best:validation/acc") == ["validation/accuracy"]
    assert ask("sightx list-runs model.us")[-1] == "model.use="
    assert ask("sightx nonsense ") == []


def test_a_new_plugin_is_proposed_at_once(ask: Ask, tmp_path: Path) -> None:
    assert "none-of-ours" not in ask("sightx show-plugin observer ")
    project = tmp_path / "project"
    (project / "own").mkdir()
    (project / "own" / "mine.py").write_text(
        "from sightx.plugin import Observer, hookimpl\n\n"
        'class Mine(Observer):\n    """Mine."""\n\n    name = "none-of-ours"\n\n'
        "    def build(self, run):\n        return object()\n\n"
        "@hookimpl\ndef sightx_components():\n    return [Mine]\n"
    )
    (project / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["own"]\n')
    assert "none-of-ours" in ask("sightx show-plugin observer ")
