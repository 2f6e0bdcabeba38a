"""`sightx list-plugins`: list components, and the plugins that provide them."""

from __future__ import annotations

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import check_kind, json_output, print_json


@click.command("list-plugins", short_help="List components and plugins.")
@click.argument("kind", required=False, callback=check_kind)
@json_output
@click.option("--verbose", "-v", is_flag=True, help="Show file and line of every component.")
def command(kind: str | None, as_json: bool, verbose: bool) -> None:
    """List the components of every kind, or of one KIND, and the state of every plugin."""
    from sightx import console

    registry = load_project_registry()
    if as_json:
        print_json(registry.describe(kind))
    else:
        console.show_registry(registry, kind, verbose=verbose)
