"""`sightx list-plugins`: list components, and the plugins that provide them."""

from __future__ import annotations

import json

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import check_kind


@click.command("list-plugins", short_help="List components and plugins.")
@click.argument("kind", required=False, callback=check_kind)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--verbose", "-v", is_flag=True, help="Show file and line of every component.")
def command(kind: str | None, as_json: bool, verbose: bool) -> None:
    """List the components of every kind, or of one KIND, and the state of every plugin."""
    from sightx import console

    registry = load_project_registry()
    if as_json:
        click.echo(json.dumps(registry.describe(kind), indent=1))
    else:
        console.show_registry(registry, kind, verbose=verbose)
