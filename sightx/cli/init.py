"""`sightx init`: write a first spec for some data."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import UserPath


@click.command("init", short_help="Write a spec for your own images.")
@click.argument("data", metavar="FOLDER|CSV", type=UserPath())
@click.option(
    "-o",
    "--output",
    type=UserPath(),
    help="Write this file; it must be new.",
)
def command(data: Path, output: Path | None) -> None:
    """Look at a FOLDER of images, or a CSV file of labels, and print a spec that runs."""
    from sightx.init.inspect_data import inspect_data
    from sightx.init.write_spec import write_spec
    from sightx.io import atomic
    from sightx.io.files import shell_path
    from sightx.registry.project import find_project

    if output is not None:
        _check_output(output)
    # The places of a project are known only where the spec is written into the project.
    project = find_project(output.parent) if output else None
    registry = load_project_registry(output.parent if output else None)
    facts = inspect_data(data, registry, project)
    text = write_spec(facts)
    if output is None:
        click.echo(text, nl=False)
    else:
        with atomic.disk_errors(output.absolute().parent):
            atomic.write_new(output, text.encode())
        for remark in facts.remarks:
            if remark.startswith("Warning: "):
                click.echo(f"{output}: {remark[:1].lower()}{remark[1:]}", err=True)
        path = shell_path(output).removeprefix("./")  # a spec is always a path
        click.echo(f"{output}: written; next: sightx run {path}", err=True)


def _check_output(output: Path) -> None:
    """Raise SpecError if a file exists already, or its folder does not."""
    from sightx.errors import Problem, SpecError

    if output.exists():
        raise SpecError(Problem("exists", f"{output} exists", "give another --output"))
    if not output.parent.is_dir():
        raise SpecError(Problem("usage", f"{output.parent} is not a folder", "create it first"))
