"""Find runs: by id, by a unique prefix, or the last one."""

from __future__ import annotations

from pathlib import Path

from sightx.errors import Problem, RunError, SpecError
from sightx.runs.directory import Run, open_run


def runs(root: Path) -> list[Run]:
    """Return the runs below a folder, the oldest first."""
    if not root.is_dir():
        return []
    return [Run(path) for path in sorted(root.iterdir()) if (path / "experiment.toml").is_file()]


def find(root: Path, text: str) -> tuple[Run, str]:
    """Return the run that `text` names, and the checkpoint behind an `@`, if any.

    `text` is a directory, an id, a unique prefix or `last`. Raises RunError or SpecError.
    """
    name, _, checkpoint = text.partition("@")
    if "/" in name or name in {".", ".."}:
        return open_run(name), checkpoint
    if not name or "\0" in name or len(name) > 255:
        raise SpecError(Problem("run-name", f"{name[:40]!r} names no run", "sightx run makes one"))
    known = runs(root)
    if name == "last" and known:  # a run that failed before its first checkpoint is of no use
        return next((run for run in reversed(known) if run.checkpoints), known[-1]), checkpoint
    found = [run for run in known if run.id == name] or [r for r in known if r.id.startswith(name)]
    if len(found) == 1:
        return found[0], checkpoint
    raise _not_one(root, name, found)


def _not_one(root: Path, name: str, found: list[Run]) -> RunError:
    if found:
        listing = ", ".join(run.id for run in found[:3])
        return RunError(Problem("run-name", f"{name!r} begins {len(found)} runs", listing))
    hint = "sightx run SPEC makes one, --runs FOLDER looks elsewhere"
    return RunError(Problem("no-run", f"no run {name!r} below {root}", hint))
