"""`sightx run`: execute an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightx.cli.options import UserPath, launched, overrides, processes, runs_folder
from sightx.distributed import rendezvous

if TYPE_CHECKING:
    from sightx import Run


@click.command("run", short_help="Train and evaluate a spec.")
@click.argument("spec", type=UserPath())
@overrides
@runs_folder
@click.option(
    "--continue",
    "unfinished",
    is_flag=True,
    help="Resume the newest run of this experiment, if there is one.",
)
@click.option("--profile", is_flag=True, help="Trace some steps, and print where the time went.")
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
    """Train and evaluate SPEC."""
    if (code := launched(processes)) is not None:
        return code
    import sightx
    from sightx import console

    experiment = sightx.load(spec, overrides)
    with console.show_progress(quiet or rendezvous.rank() > 0) as progress:
        run = until_interrupted(
            sightx.run,
            experiment,
            observers=[] if quiet else ["console"],
            runs=runs,
            progress=progress,
            unfinished=unfinished,
            profile=profile,
        )
    if profile and not rendezvous.rank():
        console.show_profile(run)
    return report(run, quiet)


def until_interrupted(call: Callable[..., Run], *arguments: Any, **options: Any) -> Run:
    """Call `sightx.run` or `sightx.resume`; return the run also if a SIGINT has ended it."""
    from sightx.runner.interrupts import RunInterrupted

    try:
        return call(*arguments, **options)
    except RunInterrupted as interruption:
        return interruption.run


def report(run: Run, quiet: bool) -> int:
    """Return the exit code of a run; print its directory if the command is quiet."""
    if quiet and not rendezvous.rank():
        click.echo(run.directory)
    return 128 + int(run.result["signal"]) if "signal" in run.result else 0
