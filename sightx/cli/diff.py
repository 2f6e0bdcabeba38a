"""`sightx diff`: what differs between runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import find_run_directory
from sightx.cli.options import json_output, print_json, runs_folder
from sightx.cli.tables import cell_text, print_table

if TYPE_CHECKING:
    from sightx.run_registry.diff import Change


@click.command("diff", short_help="Show what differs between runs.")
@click.argument("wanted", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something differs.")
@json_output
@runs_folder
def command(wanted: tuple[str, ...], exit_code: bool, as_json: bool, runs: Path | None) -> int:
    """Show what differs between two or more runs, the likeliest cause of other results first.

    Each difference is marked: it changes results, only their last digits, or is harmless.
    """
    from sightx.run_registry.diff import diff_runs

    if len(wanted) == 1:
        raise click.UsageError("name at least two runs")
    directories = [find_run_directory(run, runs)[0] for run in wanted]
    changes = diff_runs(directories)
    if as_json:
        print_json([asdict(change) for change in changes])
    elif changes:
        print_changes(changes, [directory.name for directory in directories])
    else:
        click.echo("nothing differs")
    return int(exit_code and bool(changes))


def print_changes(changes: Sequence[Change], names: Sequence[str] = ()) -> None:
    """Print one row per difference, with the values of all runs."""
    topics = ["", *(change.topic for change in changes)]
    rows = [
        [
            change.topic if change.topic != before else "",
            change.key,
            *(cell_text(change.key, value) for value in change.values),
            change.effect,
        ]
        for before, change in zip(topics, changes, strict=False)
    ]
    columns = names or ["before", "now"]
    print_table(["", "", *columns, ""], rows, fit=False)
