"""`sightx ship`: send runs to a tracker."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightx.cli.context import find_run_directory
from sightx.cli.options import json_output, print_json, runs_folder
from sightx.errors import Problem, ResourceError
from sightx.io.system import utc_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sightx.trackers.shipper import Tracker

_TRACKERS = ("mlflow",)


@click.command("ship", short_help="Send runs to a tracker.")
@click.argument("wanted", nargs=-1, required=True, metavar="RUN...")
@click.option("--to", type=click.Choice(_TRACKERS), help="The tracker; that of the run's spec.")
@click.option("--server", metavar="URI", help="Its address, in place of that of the spec.")
@click.option("--experiment", metavar="NAME", help="The experiment there.")
@click.option("--follow", is_flag=True, help="Send until the run has ended.")
@json_output
@runs_folder
def command(
    wanted: tuple[str, ...],
    to: str | None,
    server: str | None,
    experiment: str | None,
    follow: bool,
    as_json: bool,
    runs: Path | None,
) -> int:
    """Send RUN... to the tracker of its spec, or to another one.

    Only what has not arrived yet is sent, so it can be repeated at any time.
    """
    if follow:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may be closed
        os.nice(10)  # training goes first
    directories = [find_run_directory(run, runs)[0] for run in wanted]
    shipped = []
    for directory in directories:
        arrived_at = _ship(directory, to, server, experiment, follow)
        shipped.append({"run": directory.name, "tracker": to or "mlflow", "server": arrived_at})
        if arrived_at is not None and not as_json:
            click.echo(f"{directory.name}: everything has arrived at {arrived_at or 'MLflow'}")
    if as_json:
        print_json(shipped)
    return 0 if all(one["server"] is not None for one in shipped) else ResourceError.exit_code


def _ship(
    directory: Path, to: str | None, server: str | None, experiment: str | None, follow: bool
) -> str | None:
    """Send one run, and return the address of the tracker, or None if something is left."""
    from sightx.trackers import shipper
    from sightx.trackers.mlflow import MlflowTracker

    settings = _settings(directory, to or "mlflow")
    if settings is None and not to:
        hint = f"sightx ship {directory.name} --to mlflow --server URI"
        raise click.UsageError(f"the spec of {directory.name} names no tracker: {hint}")
    settings = settings or {}
    tracker: Tracker = MlflowTracker(
        server or str(settings.get("server", "")),
        experiment or str(settings.get("experiment", "")),
    )
    files: Sequence[str] = settings.get("files", shipper.FILES)
    try:
        if not follow:
            shipper.ship(directory, tracker, files)
        elif not shipper.follow(directory, tracker, files, log=_log):
            return None
    except shipper.TrackerError as error:
        hint = f"sightx ship {directory.name} sends the rest later"
        raise ResourceError(Problem("tracker-down", str(error), hint)) from error
    return tracker.server


def _log(text: str) -> None:
    click.echo(f"{utc_time()} {text}", err=True)


def _settings(directory: Path, tracker: str) -> Mapping[str, Any] | None:
    """Return the settings of a tracker in the spec of a run; None if it does not name it."""
    from sightx.io import toml

    observers = toml.read(directory / "experiment.toml").data.get("observer", [])
    wanted = [observer for observer in observers if observer.get("use") == tracker]
    return wanted[0] if wanted else None
