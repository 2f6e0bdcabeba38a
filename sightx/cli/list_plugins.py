"""`sightx list-plugins`: say what can be named, and who brought it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sightx.cli.options import a_kind


@click.command("list-plugins", short_help="List what specs can name.")
@click.argument("kind", required=False, callback=a_kind)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--verbose", "-v", is_flag=True, help="Show file and line of every component.")
def command(kind: str | None, as_json: bool, verbose: bool) -> None:
    """List the components of every kind, or of one KIND, and the state of every plugin."""
    from sightx import console
    from sightx.registry import loading, project

    registry = loading.load_registry(project.find_project(Path.cwd()))
    if as_json:
        click.echo(json.dumps(registry.describe(kind), indent=1))
    else:
        console.show_registry(registry, kind, verbose=verbose)
