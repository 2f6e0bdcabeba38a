"""The console observer in a real notebook."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sightx.builtin.observers.notebook import is_notebook
from support.runs import only_run

ROOT = Path(__file__).parents[3]


def run_notebook(folder: Path, *cells: str) -> list[Any]:
    """Run cells in a kernel of this Python, and return the outputs of each cell."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=120, allow_errors=True)
    client.create_kernel_manager()
    # A kernel spec may name another Python.
    client.km.kernel_spec.argv = [
        sys.executable,
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]
    client.km.extra_env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    client.execute(cwd=str(folder))
    return [cell.outputs for cell in notebook.cells]


def texts(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_notebook_shows_a_live_bar_and_lines_and_keeps_its_kernel(spec: Path) -> None:
    interrupted = (
        "import signal\n"
        "from sightx.plugin import hookimpl\n"
        "class Stop:\n"
        "    @hookimpl\n"
        "    def sightx_step_finished(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        'sightx.run("spec.toml", observers=[Stop()], runs="stopped")\n'
    )
    first, second, third = run_notebook(
        spec.parent,
        'import sightx\nrun = sightx.run("spec.toml", runs="runs")',
        interrupted,
        "print(run.status)",
    )
    (bar,) = [output for output in first if output.output_type == "display_data"]
    assert "step 6/6" in bar.data["text/plain"]
    assert '<progress value="6" max="6">' in bar.data["text/html"]
    assert "epoch 2/2" in bar.data["text/html"]
    shown = texts(first)
    assert "train loss" in shown
    assert "finished after" in shown
    assert not re.search(r"\x1b\[[0-9?]*[A-KSThl]|\r", shown)  # colours only: no cursor to move
    log = (only_run(spec.parent / "runs").directory / "console.log").read_text()
    assert "train loss" in log
    assert "finished after" in log
    error = second[-1]
    assert error.ename == "RunInterrupted"
    assert "sightx.resume(" in error.evalue
    assert texts(third) == "finished\n"


def test_a_terminal_is_not_a_notebook() -> None:
    assert not is_notebook()
