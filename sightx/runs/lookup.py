"""The runs of a folder, and the project of a run."""

from __future__ import annotations

from pathlib import Path

from sightx.registry.project import Project, find_project
from sightx.runs import names
from sightx.runs.directory import Run


def list_runs(root: Path) -> list[Run]:
    """Return the runs in a folder, the oldest first."""
    return [Run(path) for path in names.run_directories(root)]


def find_run_project(run: Run) -> Project:
    """Return the project of a run: the one around it, the one that it started in, or ours.

    A run that was moved out of its project finds it through environment.json, and otherwise uses
    the plugins of the working directory's project.
    """
    around = find_project(run.directory)
    if around.plugins:
        return around
    started_in = Path(run.environment.get("project", ""))
    return find_project(started_in if started_in.is_dir() else Path.cwd())
