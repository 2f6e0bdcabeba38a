"""`sightx show`: print the whole experiment."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sightx.cli.options import overrides


@click.command("show", short_help="Print a whole spec, and where from.")
@click.argument("spec", type=click.Path(path_type=Path, readable=False))
@overrides
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(spec: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print SPEC as TOML with every default filled in, and where each value comes from."""
    from sightx.spec import render
    from sightx.spec.load import load

    experiment = load(spec, overrides)
    if as_json:
        click.echo(json.dumps(render.describe_experiment(experiment), indent=1))
    else:
        click.echo(render.render_toml(experiment), nl=False)
