"""`sightx show`: print the whole experiment of a spec."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.options import SpecPath, json_output, overrides, print_json


@click.command("show", short_help="Print a spec with all defaults.")
@click.argument("spec", type=SpecPath())
@overrides
@json_output
def command(spec: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print SPEC as TOML with every default filled in, and the origin of each value."""
    from sightx.spec import render
    from sightx.spec.load import load

    experiment = load(spec, overrides)
    if as_json:
        described = render.describe_experiment(experiment, experiment.context)
        print_json(described)
    else:
        click.echo(render.render_experiment(experiment, experiment.context), nl=False)
