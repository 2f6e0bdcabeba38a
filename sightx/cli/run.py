"""`sightx run`: execute an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from sightx.cli.options import overrides, runs_folder

if TYPE_CHECKING:
    from sightx import Experiment, Observer
    from sightx.spec.experiment import Origin


@click.command("run", short_help="Train and evaluate a spec.")
@click.argument("spec", type=click.Path(path_type=Path, readable=False))
@overrides
@runs_folder
@click.option("--quiet", is_flag=True, help="Print only the run's directory.")
def command(spec: Path, overrides: tuple[str, ...], runs: Path | None, quiet: bool) -> int:
    """Train and evaluate what SPEC says."""
    import sightx
    from sightx import console

    experiment = sightx.load(spec, overrides)
    with console.preparing(quiet) as progress:
        watching = {} if quiet else {"console": _console(experiment)}
        finished = sightx.run(experiment, observers=watching, runs=runs, progress=progress)
    if quiet:
        click.echo(finished.directory)
    return 128 + finished.result["signal"] if "signal" in finished.result else 0


def _console(experiment: Experiment) -> Observer:
    """Return the observer that talks to the person who typed the command."""
    registry = cast("Origin", experiment.origin).registry
    return cast("Observer", registry.find("observer", "console")())
