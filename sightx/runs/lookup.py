"""Find runs: by id, by a unique prefix, or the last one."""

from __future__ import annotations

from pathlib import Path

from sightx.errors import Problem, RunError, SpecError
from sightx.runs.directory import MAKING, Run, open_run

LONGEST = 255
"""Characters of a run's name: what file systems allow."""


def list_runs(root: Path) -> list[Run]:
    """Return the runs below a folder, the oldest first."""
    if not root.is_dir():
        return []
    return [Run(path) for path in sorted(root.iterdir()) if is_run(path)]


def is_run(path: Path) -> bool:
    """Say whether a path is a run's directory."""
    return (path / "experiment.toml").is_file() and not path.name.startswith(MAKING)


def find_run(root: Path, text: str) -> tuple[Run, str]:
    """Return the run that `text` names, and the checkpoint behind an `@`, if any.

    `text` is an id, a unique prefix, `last`, or the path of a run's directory: what has a slash.
    A run that is named lies in `root` itself. Raises SpecError for what cannot be a name,
    RunError where there is no such run.
    """
    name, _, checkpoint = text.partition("@")
    if "/" in name:
        if not is_run(Path(name)):
            raise _no_name(name, "it is no run's directory")
        return open_run(name), checkpoint
    if not name or name in {".", ".."} or "\0" in name or len(name) > LONGEST:
        raise _no_name(name, "sightx run makes one")
    known = list_runs(root)
    found = [run for run in known if run.id == name] or [r for r in known if r.id.startswith(name)]
    if name == "last":  # a run that failed before its first checkpoint is of no use
        found = [run for run in known if run.checkpoints][-1:] or known[-1:]
    if len(found) != 1:
        raise _not_one(root, name, found)
    if found[0].directory.resolve().parent != root.resolve():
        raise _no_name(name, f"it leads out of {root}: give its path")
    return found[0], checkpoint


def _no_name(name: str, hint: str) -> SpecError:
    return SpecError(Problem("run-name", f"{name[:40]!r} names no run", hint))


def _not_one(root: Path, name: str, found: list[Run]) -> RunError:
    if found:
        listing = ", ".join(run.id for run in found[:3])
        return RunError(Problem("run-name", f"{name!r} begins {len(found)} runs", listing))
    hint = "sightx run SPEC makes one, --runs FOLDER looks elsewhere"
    return RunError(Problem("no-run", f"no run {name!r} below {root}", hint))
