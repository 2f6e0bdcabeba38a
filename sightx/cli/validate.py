"""`sightx validate`: find every problem of every spec."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.options import overrides


@click.command("validate")
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@overrides
def command(specs: tuple[Path, ...], overrides: tuple[str, ...]) -> int:
    """Check SPECS without opening data or importing what is heavy."""
    from sightx.errors import SightXError
    from sightx.spec.resolve import load

    code = 0
    for spec in specs:
        try:
            load(spec, overrides)
        except SightXError as error:
            click.echo(str(error), err=True)
            code = max(code, error.exit_code)
        else:
            click.echo(f"{spec}: valid")
    return code
