"""Find runs by id, by a unique prefix, by path, or the newest one; and the project of a run."""

from __future__ import annotations

from pathlib import Path

from sightx.errors import Problem, RunError, SpecError
from sightx.io.files import user_path
from sightx.registry.project import Project, find_project
from sightx.registry.registry import natural_key
from sightx.runs import checkpoints
from sightx.runs.directory import TEMPORARY, Run, open_run

MAX_NAME_LENGTH = 255
"""Characters that file systems allow in a name."""


def list_runs(root: Path) -> list[Run]:
    """Return the runs in a folder, the oldest first."""
    if not root.is_dir():
        return []
    paths = sorted(root.iterdir(), key=lambda path: natural_key(path.name))
    return [Run(path) for path in paths if is_run(path)]


def is_run(path: Path) -> bool:
    """Return whether a path is a run directory."""
    return (path / "experiment.toml").is_file() and not path.name.startswith(TEMPORARY)


def find_run(root: Path, text: str) -> tuple[Run, str]:
    """Return the run that RUN means in a command, and the checkpoint name after its `@`, or "".

    Args:
        root: The folder of runs.
        text: An id, a unique prefix of one, `last`, or a path, which has a slash; then perhaps
            `@NAME`. `last` is the newest run that has a saved state or has not failed.

    Raises:
        SpecError: The text cannot be the name of a run in `root`, or the path is not a run.
        RunError: There is no such run, or more than one.
    """
    name, _, checkpoint = text.partition("@")
    if "/" in name:
        if not is_run(user_path(name)):
            raise _not_a_name(name, "it is not a run directory")
        return open_run(name), checkpoint
    if not name or name in {".", ".."} or "\0" in name or len(name) > MAX_NAME_LENGTH:
        raise _not_a_name(name, "sightx run SPEC creates runs")
    run = _find_by_name(root, name)
    if run.directory.resolve().parent != root.resolve():
        raise _not_a_name(name, f"it is a link out of {root}: give its path")
    return run, checkpoint


def _find_by_name(root: Path, name: str) -> Run:
    runs = list_runs(root)
    if name == "last":
        matches = [run for run in runs if not _failed_without_state(run)][-1:]
    else:
        matches = [run for run in runs if run.id == name]
        matches = matches or [run for run in runs if run.id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        first = ", ".join(run.id for run in matches[:3])
        raise RunError(Problem("run-name", f"{len(matches)} runs begin with {name!r}", first))
    hint = "sightx run SPEC creates one; --runs FOLDER looks in another folder"
    if name == "last" and runs:
        hint = (
            f"the newest, {runs[-1].id}, failed before its first checkpoint; name it to resume it"
        )
    raise RunError(Problem("no-run", f"no run {name!r} below {root}", hint))


def _failed_without_state(run: Run) -> bool:
    """Return whether a run has failed before its first checkpoint, so that it has no weights."""
    if checkpoints.list_checkpoints(run.directory / "checkpoints"):
        return False
    try:
        return run.result.get("status") == "failed"
    except RunError:  # a damaged result.json must not hide the other runs
        return False


def _not_a_name(name: str, hint: str) -> SpecError:
    return SpecError(Problem("run-name", f"{name[:40]!r} is not the name of a run", hint))


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
