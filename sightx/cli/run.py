"""`sightx run`: execute an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from sightx.cli.options import launched, overrides, processes, runs_folder
from sightx.distributed import rendezvous

if TYPE_CHECKING:
    from sightx import Experiment, Run
    from sightx.plugin import Observer


@click.command("run", short_help="Train and evaluate a spec.")
@click.argument("spec", type=click.Path(path_type=Path, readable=False))
@overrides
@runs_folder
@click.option(
    "--continue",
    "unfinished",
    is_flag=True,
    help="Go on with the newest run of this experiment, if there is one.",
)
@click.option("--profile", is_flag=True, help="Trace some steps, and say where their time went.")
@processes
@click.option("--quiet", is_flag=True, help="Print only the run's directory.")
def command(
    spec: Path,
    overrides: tuple[str, ...],
    runs: Path | None,
    unfinished: bool,
    profile: bool,
    processes: int,
    quiet: bool,
) -> int:
    """Train and evaluate what SPEC says."""
    if (code := launched(processes)) is not None:
        return code
    import sightx
    from sightx import console

    experiment = sightx.load(spec, overrides)
    with console.preparing(quiet or rendezvous.rank() > 0) as progress:
        finished = sightx.run(
            experiment,
            observers=watching(experiment, quiet),
            runs=runs,
            progress=progress,
            unfinished=unfinished,
            profile=profile,
        )
    if profile and not rendezvous.rank():
        console.show_profile(finished)
    return report(finished, quiet)


def watching(experiment: Experiment, quiet: bool) -> dict[str, Observer]:
    """Return the observer that talks to the person who typed a command, unless it is quiet."""
    if quiet or rendezvous.rank():
        return {}
    registry = experiment.context.registry
    return {"console": cast("Observer", registry.find("observer", "console")())}


def report(run: Run, quiet: bool) -> int:
    """Return the exit code of a run; print its directory for a quiet command."""
    if quiet and not rendezvous.rank():
        click.echo(run.directory)
    return 128 + int(run.result["signal"]) if "signal" in run.result else 0
