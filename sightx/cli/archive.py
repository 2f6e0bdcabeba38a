"""`sightx archive`: one run as one ZIP file."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import find_run_directory
from sightx.cli.options import UserPath, json_output, print_json, runs_folder
from sightx.errors import counted


@click.command("archive", short_help="Write a run into one ZIP file.")
@click.argument("run")
@click.option("-o", "--output", type=UserPath(), required=True, metavar="FILE.zip")
@json_output
@runs_folder
def command(run: str, output: Path, as_json: bool, runs: Path | None) -> None:
    """Write RUN into FILE.zip, and read it back to verify it.

    The same run gives the same bytes. `sightx import-run FILE.zip` unpacks it under the same id.
    """
    from sightx.io.system import format_bytes
    from sightx.run_registry.archive import archive_run

    directory, _ = find_run_directory(run, runs)
    files = archive_run(directory, output)
    size = output.stat().st_size
    if as_json:
        print_json({"run": directory.name, "file": str(output), "files": files, "bytes": size})
    else:
        click.echo(f"{output}: {counted(files, 'file')}, {format_bytes(size)}, verified")
