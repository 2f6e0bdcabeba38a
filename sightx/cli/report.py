"""`sightx report`: write the report of a run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import find_run
from sightx.cli.options import UserPath, runs_folder


@click.command("report", short_help="Write the report of a run as one HTML file.")
@click.argument("run")
@click.option("--split", default="", metavar="NAME", help="Predictions to judge; test by default.")
@click.option("--against", multiple=True, metavar="RUN", help="Compare with another run.")
@click.option("--no-images", is_flag=True, help="Leave out the images.")
@click.option("--html", metavar="FILE", type=UserPath(dir_okay=False), help="Write this file.")
@runs_folder
def command(
    run: str,
    split: str,
    against: tuple[str, ...],
    no_images: bool,
    html: Path | None,
    runs: Path | None,
) -> None:
    """Write everything that is needed to judge RUN to report.html in its directory.

    That of another --split than test is report-NAME.html. The file needs no other file, no script
    and no network. Numbers come from the predictions of a split, which `sightx evaluate` writes;
    images are read again.
    """
    from sightx import console
    from sightx.reporting.report import write_report

    judged, _ = find_run(run, runs)
    rivals = [find_run(name, runs)[0] for name in against]
    with console.show_progress(False, "reading images") as progress:
        file = write_report(
            judged, split, rivals=rivals, images=not no_images, file=html, progress=progress
        )
    click.echo(file)
