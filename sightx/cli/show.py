"""`sightx show`: print the whole experiment."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.options import overrides


@click.command("show")
@click.argument("spec", type=click.Path(path_type=Path))
@overrides
def command(spec: Path, overrides: tuple[str, ...]) -> None:
    """Print SPEC as TOML with every default filled in."""
    from sightx import document
    from sightx.spec.resolve import load

    experiment = load(spec, overrides)
    click.echo(f"# experiment id: {experiment.id}\n")
    click.echo(document.dump(experiment.tables()), nl=False)
