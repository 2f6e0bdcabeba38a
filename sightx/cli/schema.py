"""`sightx schema`: print or write a JSON Schema of specs."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import load_project_registry


@click.command("schema", short_help="Print a JSON Schema of specs.")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path | None) -> None:
    """Print a JSON Schema of all specs that can use the installed plugins, or write it to FILE.

    Editors with TOML support complete and check a spec that begins with `#:schema FILE`.
    """
    import json
    import logging

    from sightx.spec.json_schema import schema

    registry = load_project_registry()
    for warning in registry.warnings():
        logging.getLogger("sightx").warning("%s", warning)
    text = json.dumps(schema(registry), indent=1, sort_keys=True, ensure_ascii=False)
    if file is None:
        click.echo(text)
    else:
        file.write_text(text + "\n", encoding="utf-8")
