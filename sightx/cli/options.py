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


def processes(command: Command) -> Command:
    """Add `--processes N`."""
    return click.option(
        "--processes",
        type=click.IntRange(min=1),
        default=1,
        help="Train with so many processes of this host together.",
    )(command)


def launched(processes: int) -> int | None:
    """Do the whole command in several processes, and return its exit code.

    Return None where this process does it: there shall be one, or it is one of those started.
    """
    from sightx.distributed import rendezvous

    if processes == 1 or rendezvous.world_size() > 1:
        return None
    from sightx.distributed import launch

    return launch.launch(processes, click.get_current_context().find_root().obj)


def a_kind(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the name of a kind as it is. Raises SpecError for any other."""
    from sightx.errors import Problem, SpecError, did_you_mean
    from sightx.registry.kinds import KINDS

    kinds = [cls.kind for cls in KINDS]
    if value is not None and value not in kinds:
        hint = did_you_mean(value, kinds) or f"known: {', '.join(kinds)}"
        raise SpecError(Problem("usage", f"no kind is called {value!r}", hint))
    return value
