"""What checks find in a spec that is wrong elsewhere: its wrong parts are taken out first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from sightx.errors import Problem, SightXError
from sightx.io.toml import Key
from sightx.registry.components import validate_settings
from sightx.registry.validation_errors import parse_key
from sightx.spec import checks
from sightx.spec.experiment import Context, Experiment
from sightx.spec.paths import Table

# Without these the table as a whole says nothing.
_WHOLE = {"missing-key", "missing-use", "unknown-name", "name-clash", "broken-plugin"}


def check_beyond_errors(
    context: Context, wrong: Iterable[Problem], fill: Callable[[Table], None]
) -> list[Problem]:
    """Return what the checks of the stage `spec` find beside what is wrong already.

    Each wrong value gives way to its default, each table without a component to a default one,
    which `fill` knows. Where that leaves no whole experiment, nothing can be said.
    """
    data: Table = deepcopy(context.spec.data)
    gone = [_take(data, parse_key(problem.path), problem.code) for problem in wrong]
    fill(data)
    try:
        experiment = validate_settings(Experiment, data, context.registry).with_context(context)
    except (ValidationError, SightXError):
        return []
    return [
        problem
        for problem in checks.run_checks(experiment, "spec")
        # What the spec leaves out was filled by what it says wrongly: that judges nobody.
        if parse_key(problem.path)[:1] in context.spec.positions
        and not any(parse_key(problem.path)[: len(key)] == key for key in gone)
    ]


def _take(data: Any, key: Key, code: str) -> Key:
    """Take a wrong value out, or the section around it; return what is gone."""
    if code in _WHOLE or len(key) < 2:
        data.pop(key[0], None)
        return key[:1]
    for part in key[:-1]:
        inside = isinstance(data, dict) and part in data
        if not inside and not (isinstance(data, list) and isinstance(part, int)):
            return key
        data = data[part]
    if isinstance(data, dict):
        data.pop(key[-1], None)
    elif isinstance(data, list) and isinstance(key[-1], int):
        data.clear()  # other items would move to other places
    return key
