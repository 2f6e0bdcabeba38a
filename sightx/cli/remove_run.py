"""`sightx remove-run`: move runs to the trash, restore them, and empty it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from sightx.cli.context import find_run_directory, runs_root
from sightx.cli.options import json_output, print_json, runs_folder
from sightx.errors import counted


@click.command("remove-run", short_help="Move runs to the trash, or restore them.")
@click.argument("wanted", nargs=-1, metavar="RUN...")
@click.option("--restore", is_flag=True, help="Move RUN... back from the trash.")
@click.option("--empty-trash", is_flag=True, help="Delete what is in the trash for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_output
@runs_folder
def command(
    wanted: tuple[str, ...],
    restore: bool,
    empty_trash: bool,
    yes: bool,
    as_json: bool,
    runs: Path | None,
) -> None:
    """Move RUN... to the folder .trash in the folder of runs.

    A run that is being written, or that other runs start from, stays.
    """
    from sightx.run_registry import trash

    root = runs_root(runs)
    if empty_trash == bool(wanted):
        raise click.UsageError("name runs, or --empty-trash without runs")
    if restore:
        restored = [trash.restore_run(root, name) for name in wanted]
        _report("restored", restored, 0, as_json)
        return
    removed = (
        trash.removed_runs(root)
        if empty_trash
        else [find_run_directory(run, runs)[0] for run in wanted]
    )
    size = sum(map(trash.disk_usage, removed))
    if not removed or not (yes or _ask(removed, size, for_good=empty_trash)):
        removed = []
        if not as_json:
            return
    if empty_trash:
        _report("deleted", removed, trash.purge(removed), as_json)
    else:
        trashed = [trash.remove_run(directory.parent, directory) for directory in removed]
        _report("trashed", trashed, size if trashed else 0, as_json)


def _ask(removed: Sequence[Path], size: int, *, for_good: bool) -> bool:
    """Show what would be removed, and return whether the user agrees."""
    from sightx.io.system import format_bytes

    for directory in removed:
        click.echo(f"{'delete for good' if for_good else 'move to the trash'}: {directory}")
    try:
        return click.confirm(f"{counted(len(removed), 'run')}, {format_bytes(size)}: go on?")
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("there is no terminal that could answer: add --yes") from None


def _report(what: str, directories: Sequence[Path], size: int, as_json: bool) -> None:
    """Print what was done, and how to undo it."""
    from sightx.io.files import shell_path
    from sightx.io.system import format_bytes

    if as_json:
        print_json({what: [str(directory) for directory in directories], "bytes": size})
    elif what == "deleted":
        click.echo(f"{format_bytes(size)} deleted")
    else:
        for directory in directories:
            runs_of = shell_path(directory.parent.parent)
            click.echo(
                f"restored {directory}"
                if what == "restored"
                else f"sightx remove-run --restore {directory.name} --runs {runs_of} undoes it"
            )
