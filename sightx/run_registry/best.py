"""`best:KEY`: the run with the best value of a metric."""

from __future__ import annotations

import re
from pathlib import Path

from sightx.errors import Problem, RunError, SpecError
from sightx.io.files import shell_path
from sightx.run_registry.filters import In, find_key, join_filters, parse_filter
from sightx.run_registry.index import Index, read_index
from sightx.runs import names

_BEST = re.compile(r"best:([^\[\]@]+)(?:\[(.*)\])?(?:@([^@\]]+))?")


def find_directory(root: Path, text: str) -> tuple[Path, str]:
    """Return the run directory that RUN means in a command, and the checkpoint after its `@`.

    RUN may be what `names.find_directory` accepts, or `best:KEY`, or `best:KEY[FILTER]`: the
    finished run with the best value of a metric, the newest of equal ones. Raises SpecError or
    RunError.
    """
    if not text.startswith("best:"):
        return names.find_directory(root, text)
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
