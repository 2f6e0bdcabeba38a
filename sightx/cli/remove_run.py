"""`sightx remove-run`: move runs to the trash, restore them, and empty it."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import find_run_directory, runs_root
from sightx.cli.options import runs_folder
from sightx.errors import counted


@click.command("remove-run", short_help="Move runs to the trash, or restore them.")
@click.argument("wanted", nargs=-1, metavar="RUN...")
@click.option("--restore", is_flag=True, help="Move RUN... back from the trash.")
@click.option("--empty-trash", is_flag=True, help="Delete what is in the trash for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@runs_folder
def command(
    wanted: tuple[str, ...], restore: bool, empty_trash: bool, yes: bool, runs: Path | None
) -> None:
    """Move RUN... to the folder .trash in the folder of runs.

    A run that is being written, or that other runs start from, stays.
    """
    from sightx.io.files import shell_path
    from sightx.io.system import format_bytes
    from sightx.run_registry import trash

    root = runs_root(runs)
    if empty_trash == bool(wanted):
        raise click.UsageError("name runs, or --empty-trash without runs")
    if restore:
        for name in wanted:
            click.echo(f"restored {trash.restore_run(root, name)}")
        return
    removed = (
        trash.removed_runs(root)
        if empty_trash
        else [find_run_directory(run, runs)[0] for run in wanted]
    )
    size = sum(map(trash.disk_usage, removed))
    what = "delete for good" if empty_trash else "move to the trash"
    for directory in removed:
        click.echo(f"{what}: {directory}")
    question = f"{counted(len(removed), 'run')}, {format_bytes(size)}: go on?"
    if not removed or not (yes or click.confirm(question)):
        return
    if empty_trash:
        click.echo(f"{format_bytes(trash.purge(removed))} deleted")
    else:
        for directory in removed:
            trashed = trash.remove_run(directory.parent, directory)
            runs_of = shell_path(directory.parent)
            click.echo(f"sightx remove-run --restore {trashed.name} --runs {runs_of} undoes it")
