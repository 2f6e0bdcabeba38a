"""Find the run that RUN means, in a command, in Python and in `model.weights = "run:RUN"`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sightx.errors import Problem, RunError, SpecError
from sightx.io.files import argument_path, shell_path
from sightx.registry.project import find_project
from sightx.run_registry.about import read_about
from sightx.run_registry.filters import In, find_key, join_filters, parse_filter
from sightx.run_registry.index import Index, read_index
from sightx.runs import names

if TYPE_CHECKING:
    from sightx.runs.directory import Run

_BEST = re.compile(r"best:([^\[\]@]+)(?:\[(.*)\])?(?:@([^@\]]+))?")


def find_directory(root: Path, text: str) -> tuple[Path, str]:
    """Return the run directory that RUN means, and the checkpoint after its `@`.

    RUN may be what `names.find_directory` accepts; `best:KEY` or `best:KEY[FILTER]`, the finished
    run with the best value of a metric, the newest of equal ones; or `@TAG`, the run that has a
    tag. Raises SpecError or RunError.
    """
    if text.startswith("@"):
        tag, _, checkpoint = text[1:].partition("@")
        if tagged := _tagged(root, tag):
            return names.choose(root, tagged, f"{tag!r} is a tag", f"@{tag}"), checkpoint
        hint = f"sightx tag RUN +{tag} adds it" if tag else "such as @candidate"
        raise RunError(Problem("no-run", f"no run below {root} has the tag {tag!r}", hint))
    if text.startswith("best:"):
        return _find_best(root, text)
    try:
        return names.find_directory(root, text)
    except RunError as error:
        (problem,), tag = error.problems, text.partition("@")[0]
        if problem.code != "no-run" or not _tagged(root, tag):
            raise
        raise RunError(replace(problem, hint=f"it is a tag: @{text}")) from None


def find_run(root: Path, text: str) -> tuple[Run, str]:
    """Open the run that RUN means; return it, and the checkpoint after its `@`, or ""."""
    from sightx.runs.directory import open_directory

    directory, checkpoint = find_directory(root, text)
    return open_directory(directory), checkpoint


def open_run(run: Run | str | Path, *, runs: str | Path | None = None) -> Run:
    """Open a run.

    Args:
        run: Its directory, or RUN as in a command: an id, a unique part of one, the name of an
            experiment, "last", "@TAG", "best:KEY". A name that is also a directory is the
            directory. A run is returned as it is.
        runs: The folder of runs; None means that of the working directory's project.

    Raises RunError or SpecError if there is no such run, or more than one.
    """
    from sightx.runs.directory import Run

    return run if isinstance(run, Run) else locate_run(run, runs)[0]


def locate_run(run: str | Path, runs: str | Path | None = None) -> tuple[Run, str]:
    """Open a run as `open_run` does; return it, and the checkpoint after its `@`, or ""."""
    from sightx.runs.directory import open_directory

    path = argument_path(run)
    if not isinstance(run, str) or names.is_run(path):
        return open_directory(path), ""
    if "/" in run and not run.startswith("best:"):
        folder, _, checkpoint = run.partition("@")
        return open_directory(folder), checkpoint
    root = find_project(Path.cwd()).runs if runs is None else argument_path(runs)
    return find_run(root, run)


def _tagged(root: Path, tag: str) -> list[Path]:
    return [run for run in names.run_directories(root) if tag in read_about(run).tags]


def _find_best(root: Path, text: str) -> tuple[Path, str]:
    if not (match := _BEST.fullmatch(text)):
        hint = "such as best:validation/qwk or best:qwk[model.use = resnet50]"
        raise SpecError(Problem("run-name", f"{text!r} is not the name of a run", hint))
    key, where, checkpoint = match.groups(default="")

    def select(index: Index) -> str:
        return _best(index, key, where, text, shell_path(root))

    return root / read_index(root, select), checkpoint


def _best(index: Index, text: str, where: str, name: str, root: str) -> str:
    """Return the id of the best run. Raises SpecError or RunError."""
    keys = index.keys()
    key = find_key(text, list(keys), name)
    if key.startswith("test/"):
        message = f"choosing a run by {key} makes its test metrics too good"
        hint = f"choose by validation: best:{key.replace('test/', 'validation/')}"
        raise SpecError(Problem("run-name", message, hint, file=name))
    if "/" not in key:
        hint = f"sightx list-runs --sort {key} --runs {root} sorts by any key"
        raise SpecError(Problem("run-name", f"{key} is not a metric", hint, file=name))
    filters = [In("status", ("finished", "stopped"))]
    parsed = join_filters(
        [*filters, *([parse_filter(where, keys, file=name, known=index)] if where else [])]
    )
    # A run of the first layout has recorded no directions: of a loss less is better.
    descending = (keys[key] or ("min" if key.endswith("/loss") else "max")) == "max"
    rows = index.select(parsed, sort=key, descending=descending, limit=1)
    if not rows or key not in rows[0]:
        hint = f"sightx list-runs --runs {root} shows the runs that there are"
        raise RunError(Problem("no-run", f"no finished run has {key}", hint, file=name))
    return str(rows[0]["id"])
