"""What RUN means: an id, a unique part of one, an experiment's name, `last`, or a path.

Only names and small files are read; nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sightx.errors import Problem, RunError, SpecError, did_you_mean, without_codes
from sightx.io.files import natural_key, read_json, shell_path, user_path

TEMPORARY = ".making-"
"""Prefix of a directory that is not a run yet."""
MAX_NAME_LENGTH = 255
"""Characters that file systems allow in a name."""
_ID = re.compile(r"\d{8}-\d{6}-(?P<name>.+)-(?P<hash>[0-9a-f]{6})(-\d+)?")
_CREATES = "sightx run SPEC creates one; --runs FOLDER looks in another folder"


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
        text: An id, a unique prefix of one, its end after a `-`, the beginning of its hash, the
            name of an experiment that has one run, `last`, or a path, which has a slash; then
            perhaps `@NAME`. `last` is the newest run that has a saved state or has not failed;
            for the name of an experiment, other runs count only if it has no such run.

    Raises:
        SpecError: The text cannot be the name of a run in `root`, or the path is not a run.
        RunError: There is no such run, or more than one.
    """
    name, _, checkpoint = text.partition("@")
    if "/" in name:
        if not is_run(path := user_path(name)):
            raise _not_a_name(name, hint_for_run_around(path) or "it is not a run directory")
        return user_path(name), checkpoint
    if not name or name in {".", ".."} or "\0" in name or len(name) > MAX_NAME_LENGTH:
        raise _not_a_name(name, "sightx run SPEC creates runs")
    directory = _find_by_name(root, name)
    if directory.resolve().parent != root.resolve():
        raise _not_a_name(name, f"it is a link out of {root}: give its path")
    return directory, checkpoint


def hint_for_run_around(path: Path) -> str:
    """Return a hint that names the run in which a file or a folder lies, or ""."""
    run = next(filter(is_run, path.absolute().parents), None)
    return f"it lies in a run: give {shell_path(run)}" if run else ""


def choose(root: Path, runs: Sequence[Path], meaning: str, condition: str) -> Path:
    """Return the only one of some runs, the oldest first.

    If there are several, the RunError says that the text is `meaning` of them, such as "the name";
    `condition` lists them.
    """
    if len(runs) == 1:
        return runs[0]
    message = f"{meaning} of {len(runs)} runs, the newest is {runs[-1].name}"
    hint = f"write a whole id; sightx list-runs {condition} --runs {shell_path(root)} lists them"
    raise RunError(Problem("run-name", message, hint))


def _find_by_name(root: Path, name: str) -> Path:
    if name == "last":
        return _newest(root)
    if is_run(root / name):
        return root / name
    runs = run_directories(root, name)
    parts = {run: match for run in runs if (match := _ID.fullmatch(run.name))}
    if named := [run for run, match in parts.items() if match["name"] == name]:
        usable = [run for run in named if not failure_without_state(run)] or named
        return choose(root, usable, f"{name!r} is the name", f"name={name}")
    ways = {
        "begin with": [run for run in runs if run.name.startswith(name)],
        "end with": [run for run in runs if run.name.endswith(f"-{name}")],
        "have a hash with": [run for run, match in parts.items() if match["hash"].startswith(name)],
    }
    for way, matches in ways.items():
        if len(matches) == 1:
            return matches[0]
        if matches:
            newest = ", ".join(run.name for run in matches[:-4:-1])
            hint = f"write the whole id: {newest}" + (", ..." if len(matches) > 3 else "")
            raise RunError(Problem("run-name", f"{len(matches)} runs {way} {name!r}", hint))
    raise RunError(Problem("no-run", f"no run {name!r} below {root}", _hint_for(root, name)))


def _hint_for(root: Path, name: str) -> str:
    """Return what somebody may have meant by a name that no run has."""
    if name.endswith(".toml"):
        return f"sightx run {name} --continue continues the run of a spec"
    if user_path(name).is_dir():
        return f"sightx init {shell_path(user_path(name))} writes a spec for a folder of images"
    ids = [run.name for run in run_directories(root)]
    names = {match["name"] for id_ in ids if (match := _ID.fullmatch(id_))}
    return did_you_mean(name, [*names, *ids]) or _CREATES


def _newest(root: Path) -> Path:
    """Return the newest run that has a saved state or has not failed. Raises RunError."""
    runs = run_directories(root)
    for run in reversed(runs):
        if not failure_without_state(run):
            return run
    hint = _CREATES
    if runs:
        reason = failure_without_state(runs[-1])
        hint = f"the newest run failed before its first checkpoint: {reason}; fix that, then "
        hint += f"sightx run SPEC; sightx show-run {runs[-1].name} shows it"
    raise RunError(Problem("no-run", f"no run 'last' below {root}", hint))


def failure_without_state(run: Path) -> str:
    """Return why a run failed before its first checkpoint, so that it has no weights; else ""."""
    if any((run / "checkpoints").glob("step-*")):
        return ""
    result = read_json(run / "result.json")
    if result.get("status") != "failed":
        return ""
    first, *_ = str(result.get("error", "")).splitlines() or ["for an unknown reason"]
    return without_codes(first)


def _not_a_name(name: str, hint: str) -> SpecError:
    return SpecError(Problem("run-name", f"{name[:40]!r} is not the name of a run", hint))
