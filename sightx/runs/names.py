"""What RUN means in a command: an id, a unique prefix or end of one, `last`, or a path.

Only names and small files are read; nothing heavy is imported.
"""

from __future__ import annotations

from pathlib import Path

from sightx.errors import Problem, RunError, SpecError
from sightx.io.files import natural_key, read_json, shell_path, user_path

TEMPORARY = ".making-"
"""Prefix of a directory that is not a run yet."""
MAX_NAME_LENGTH = 255
"""Characters that file systems allow in a name."""


def run_directories(root: Path, part: str = "") -> list[Path]:
    """Return the run directories in a folder whose names contain `part`, the oldest first."""
    if not root.is_dir():
        return []
    paths = [path for path in root.iterdir() if part in path.name and is_run(path)]
    return sorted(paths, key=lambda path: natural_key(path.name))


def is_run(path: Path) -> bool:
    """Return whether a path is a run directory; one that is being made begins with a dot."""
    return not path.name.startswith(".") and (path / "experiment.toml").is_file()


def find_directory(root: Path, text: str) -> tuple[Path, str]:
    """Return the run directory that RUN means in a command, and the checkpoint after its `@`.

    Args:
        root: The folder of runs.
        text: An id, a unique prefix of one, its end after a `-`, such as the hash, `last`, or a
            path, which has a slash; then perhaps `@NAME`. `last` is the newest run that has a saved
            state or has not failed.

    Raises:
        SpecError: The text cannot be the name of a run in `root`, or the path is not a run.
        RunError: There is no such run, or more than one.
    """
    name, _, checkpoint = text.partition("@")
    if "/" in name:
        if not is_run(user_path(name)):
            raise _not_a_name(name, "it is not a run directory")
        return user_path(name), checkpoint
    if not name or name in {".", ".."} or "\0" in name or len(name) > MAX_NAME_LENGTH:
        raise _not_a_name(name, "sightx run SPEC creates runs")
    directory = _find_by_name(root, name)
    if directory.resolve().parent != root.resolve():
        raise _not_a_name(name, f"it is a link out of {root}: give its path")
    return directory, checkpoint


def _find_by_name(root: Path, name: str) -> Path:
    if name != "last" and is_run(root / name):
        return root / name
    runs = run_directories(root, "" if name == "last" else name)
    if name == "last":
        matches = [run for run in runs if not _failed_without_state(run)][-1:]
    else:
        matches = [run for run in runs if run.name.startswith(name)]
    where = "begin"
    if not matches:
        matches, where = [run for run in runs if run.name.endswith(f"-{name}")], "end"
    if len(matches) == 1:
        return matches[0]
    if matches:
        first = ", ".join(run.name for run in matches[:3])
        raise RunError(Problem("run-name", f"{len(matches)} runs {where} with {name!r}", first))
    hint = "sightx run SPEC creates one; --runs FOLDER looks in another folder"
    if name.endswith(".toml"):
        hint = f"sightx run {name} --continue continues the run of a spec"
    elif user_path(name).is_dir():
        hint = f"sightx init {shell_path(user_path(name))} writes a spec for a folder of images"
    if name == "last" and runs:
        newest = runs[-1].name
        hint = f"the newest, {newest}, failed before its first checkpoint; name it to resume it"
    raise RunError(Problem("no-run", f"no run {name!r} below {root}", hint))


def _failed_without_state(run: Path) -> bool:
    """Return whether a run has failed before its first checkpoint, so that it has no weights."""
    if any((run / "checkpoints").glob("step-*")):
        return False
    return read_json(run / "result.json").get("status") == "failed"


def _not_a_name(name: str, hint: str) -> SpecError:
    return SpecError(Problem("run-name", f"{name[:40]!r} is not the name of a run", hint))
