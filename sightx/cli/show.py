"""`sightx show`: print the whole experiment of a spec."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sightx.cli.options import UserPath, overrides


@click.command("show", short_help="Print a spec with all defaults.")
@click.argument("spec", type=UserPath())
@overrides
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(spec: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print SPEC as TOML with every default filled in, and the origin of each value."""
    from sightx.spec import render
    from sightx.spec.load import load

    experiment = load(spec, overrides)
    if as_json:
        described = render.describe_experiment(experiment, experiment.context)
        click.echo(json.dumps(described, indent=1))
    else:
        click.echo(render.render_experiment(experiment, experiment.context), nl=False)
