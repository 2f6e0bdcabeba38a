"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sightx.io.files import user_path

Command = Callable[..., Any]


class UserPath(click.Path):
    """A path on the command line; a `~` that the shell has left becomes the home folder."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, readable=False, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return super().convert(user_path(value), param, ctx)


def overrides(command: Command) -> Command:
    """Add `--set key=value`, which may be repeated."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the spec, such as training.epochs=3; may be repeated.",
    )(command)


def runs_folder(command: Command) -> Command:
    """Add `--runs FOLDER`."""
    return click.option(
        "--runs",
        type=UserPath(),
        help="Folder of the runs; runs/ by default.",
    )(command)


def processes(command: Command) -> Command:
    """Add `--processes N`."""
    return click.option(
        "--processes",
        type=click.IntRange(min=1),
        default=1,
        help="Number of processes on this machine that train together.",
    )(command)


def launched(processes: int) -> int | None:
    """Run the whole command in several processes, and return its exit code.

    Return None if this process should run the command: if only one is wanted, or if it is one of
    several that were started.
    """
    from sightx.distributed import rendezvous

    if processes == 1 or rendezvous.world_size() > 1:
        return None
    from sightx.distributed import launch

    return launch.launch(processes, click.get_current_context().find_root().obj)


def check_kind(
    ctx: click.Context,
    parameter: click.Parameter,
    value: str | None,
    others: Sequence[str] = (),
) -> str | None:
    """Return the name of a kind, or one of `others`, unchanged. Raises SpecError for another."""
    from sightx.errors import Problem, SpecError, did_you_mean
    from sightx.registry.kinds import KINDS

    kinds = [*(cls.kind for cls in KINDS), *others]
    if value is not None and value not in kinds:
        hint = did_you_mean(value, kinds) or f"known: {', '.join(kinds)}"
        raise SpecError(Problem("usage", f"no kind is called {value!r}", hint))
    return value
