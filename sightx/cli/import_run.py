"""`sightx import-run`: a run from an archive, or metrics from elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import runs_root
from sightx.cli.options import UserPath, json_output, print_json, runs_folder


@click.command("import-run", short_help="Import an archived run, or metrics from elsewhere.")
@click.argument("file", type=UserPath(exists=True, dir_okay=False))
@click.option("--about", type=UserPath(exists=True, dir_okay=False), metavar="RUN.toml",
              help="Describe the metrics in a CSV file.")  # fmt: skip
@json_output
@runs_folder
def command(file: Path, about: Path | None, as_json: bool, runs: Path | None) -> None:
    """Import FILE.zip that `sightx archive` wrote: the run keeps its id, and every hash is checked.

    With --about, FILE is a CSV with a column `epoch` and columns of metrics, and RUN.toml has the
    name of the run. Importing the same file again changes nothing.
    """
    root = runs_root(runs)
    if about is not None:
        from sightx.run_registry.import_metrics import import_metrics

        directory, is_new = import_metrics(file, about, root)
    else:
        _require_archive(file)
        from sightx.run_registry.archive import import_archive

        directory, is_new = import_archive(file, root)
    if as_json:
        print_json({"run": directory.name, "directory": str(directory), "is_new": is_new})
    else:
        click.echo(directory if is_new else f"{directory}: already here, identical")


def _require_archive(file: Path) -> None:
    """Raise UsageError for a file that does not even begin like a ZIP file: perhaps a CSV."""
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            raise click.UsageError(
                f"{file} is not a ZIP file that sightx archive wrote; metrics in a CSV file need "
                "--about RUN.toml, with the name of the run"
            )
