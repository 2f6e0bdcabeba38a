"""`sightx tag`: add and remove tags of a run, and note something about it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sightx.cli.context import find_run_directory
from sightx.cli.options import json_output, print_json, runs_folder


@click.command("tag", short_help="Tag a run, or note something about it.",
               context_settings={"ignore_unknown_options": True})  # fmt: skip
@click.argument("run")
@click.argument("changes", nargs=-1, metavar="[+TAG|-TAG]...")
@click.option("--note", help="Replace the note; an empty one removes it.")
@json_output
@runs_folder
def command(
    run: str, changes: tuple[str, ...], note: str | None, as_json: bool, runs: Path | None
) -> None:
    """Add (+TAG) and remove (-TAG) tags of RUN, and print its tags and its note.

    list-runs finds tagged runs: sightx list-runs @candidate
    """
    from sightx.run_registry.about import change_about, read_about

    directory, _ = find_run_directory(run, runs)
    is_change = changes or note is not None
    about = change_about(directory, changes, note) if is_change else read_about(directory)
    if as_json:
        print_json(asdict(about))
    else:
        click.echo(f"{directory.name}: {' '.join(about.tags) or 'no tags'}")
        if about.note:
            click.echo(about.note)
