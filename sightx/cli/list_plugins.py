"""`sightx list-plugins`: say what can be named, and who brought it."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("list-plugins")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str | None, as_json: bool) -> None:
    """List the components of every kind, or of one KIND, and the state of every plugin."""
    from sightx import console
    from sightx.errors import Problem, SpecError
    from sightx.registry import plugins, project
    from sightx.registry.kinds import KINDS
    from sightx.registry.registry import nearest

    kinds = [cls.kind for cls in KINDS]
    if kind is not None and kind not in kinds:
        hint = nearest(kind, kinds) or f"known: {', '.join(kinds)}"
        raise SpecError(Problem("usage", f"no kind is called {kind!r}", hint))
    registry = plugins.load(project.find(Path.cwd()))
    if as_json:
        click.echo(json.dumps(registry.describe(kind), indent=1))
    else:
        console.show_registry(registry, kind)
