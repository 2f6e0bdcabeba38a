"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]


def overrides(command: Command) -> Command:
    """Add `--set key=value`, as often as wanted."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the spec, such as training.epochs=3.",
    )(command)


def runs_folder(command: Command) -> Command:
    """Add `--runs FOLDER`."""
    return click.option(
        "--runs",
        type=click.Path(path_type=Path, readable=False),
        help="The folder of runs; runs/ by default.",
    )(command)


def a_kind(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the name of a kind as it is. Raises SpecError for any other."""
    from sightx.errors import Problem, SpecError
    from sightx.registry.kinds import KINDS
    from sightx.registry.registry import nearest

    kinds = [cls.kind for cls in KINDS]
    if value is not None and value not in kinds:
        hint = nearest(value, kinds) or f"known: {', '.join(kinds)}"
        raise SpecError(Problem("usage", f"no kind is called {value!r}", hint))
    return value
