"""The project that a command works in: its plugins and its runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightx import Run
    from sightx.registry.registry import Registry


def load_project_registry(folder: Path | None = None) -> Registry:
    """Return the components of a folder's project; by default of the working directory's."""
    from sightx.registry.loading import load_registry
    from sightx.registry.project import find_project

    return load_registry(find_project(folder or Path.cwd()))


def find_run(run: str, runs: Path | None) -> tuple[Run, str]:
    """Return the run that RUN means, and the name of the checkpoint behind its `@`, or "".

    `runs` is the folder of runs; None means that of the working directory's project.
    """
    from sightx.runs.directory import open_run

    directory, checkpoint = find_run_directory(run, runs)
    return open_run(directory), checkpoint


def find_run_directory(run: str, runs: Path | None) -> tuple[Path, str]:
    """Return the directory of the run that RUN means, and the checkpoint; nothing is imported."""
    from sightx.run_registry import best

    return best.find_directory(runs_root(runs), run)


def runs_root(runs: Path | None) -> Path:
    """Return a folder of runs; None means that of the working directory's project."""
    from sightx.registry import project

    return runs or project.find_project(Path.cwd()).runs
