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
        "--runs", type=click.Path(path_type=Path), help="The folder of runs; runs/ by default."
    )(command)
