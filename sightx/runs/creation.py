"""Create run directories: a directory gets its name when its first files are complete."""

from __future__ import annotations

import errno
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sightx.errors import Problem, ResourceError
from sightx.io import atomic
from sightx.runs import inputs
from sightx.runs.directory import Run
from sightx.runs.names import TEMPORARY
from sightx.spec.experiment import Experiment
from sightx.spec.render import describe_origins

_ABANDONED_AFTER = 24 * 3600.0  # seconds after which a temporary directory is removed
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY) + r"\d{8}-\d{6}-.+-[0-9a-f]{6}-[0-9a-f]{8}")
_TIME_FORMAT = "%Y%m%d-%H%M%S"
_TIME = re.compile(r"\d{4}(0\d|1[0-2])([0-2]\d|3[01])-([01]\d|2[0-3])[0-5]\d[0-5]\d-")
_FIRST_FILES = {
    "spec.toml", "experiment.toml", "environment.json", "origins.json", inputs.FOLDER
}  # fmt: skip


def create_run(
    root: Path,
    experiment: Experiment,
    environment: Mapping[str, Any],
    spec: str = "",
    files: Mapping[str, str] | None = None,
) -> Run:
    """Create the directory of a new run with everything that is known before it starts.

    It gets its name when all of that is written, so every run directory has its experiment.
    Temporary directories that a crash left behind are removed after a day.

    Args:
        root: The folder of runs.
        experiment: The experiment.
        environment: The contents of environment.json.
        spec: The spec as it was written.
        files: Paths of files to copy in addition to those that the experiment names; the copies
            are recorded in environment.json as `copies`. What is not a file is left out.

    Raises ResourceError if the directory cannot be created.
    """
    name = f"{_next_time(root)}-{experiment.name}-{experiment.id[:6]}"
    try:
        temporary = root / f"{TEMPORARY}{name}-{secrets.token_hex(4)}"
        temporary.mkdir(parents=True)
        _remove_abandoned(root)
        run = Run(temporary)
        (temporary / "spec.toml").write_text(spec, encoding="utf-8")
        _write_experiment(run, experiment)
        copies = inputs.copy_files(temporary, files or {})
        run.write_json("environment.json", {**environment, "copies": copies})
        path = _rename_to_free_name(temporary, root / name)
        atomic.fsync(root)
    except OSError as error:
        message = f"cannot create a run below {root}: {error.strerror}"
        hint = "--runs FOLDER names another folder"
        raise ResourceError(Problem("run-directory", message, hint)) from error
    return Run(path)


def _write_experiment(run: Run, experiment: Experiment) -> None:
    """Write the complete experiment, and what set each of its values."""
    run.write_experiment(experiment)
    if origins := describe_origins(experiment, experiment.context):
        run.write_json("origins.json", origins)


def _next_time(root: Path) -> str:
    """Return a time for a name, after that of any run: names sort by age; `last` needs it."""
    now = time.strftime(_TIME_FORMAT)
    with suppress(OSError):  # there are no runs yet
        times = [path.name[:15] for path in root.iterdir() if _TIME.match(path.name)]
        if times and (newest := max(times)) >= now:
            moment = datetime.strptime(newest, _TIME_FORMAT) + timedelta(seconds=1)
            return moment.strftime(_TIME_FORMAT)
    return now


def _remove_abandoned(root: Path) -> None:
    """Remove what killed processes have left: directories with our names and nothing else."""
    for path in root.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):  # another process has removed or renamed it
            is_old = time.time() - path.lstat().st_mtime > _ABANDONED_AFTER
            if is_old and _TEMPORARY_NAME.fullmatch(path.name) and path.is_dir():
                names = {child.name.removeprefix(atomic.TEMPORARY) for child in path.iterdir()}
                if names <= _FIRST_FILES and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)


def _rename_to_free_name(temporary: Path, wanted: Path) -> Path:
    """Rename a directory to `wanted`, with a number added if several runs start in one second."""
    number, path = 1, wanted
    while True:
        try:
            if not path.exists():  # renaming would replace an empty directory
                return temporary.rename(path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
