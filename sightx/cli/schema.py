"""`sightx schema`: say to editors what a spec may hold."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("schema", short_help="Print a JSON Schema for editors.")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path | None) -> None:
    """Print one JSON Schema over everything that can be named here, or write it to FILE.

    A spec that begins with `#:schema FILE` is completed and checked by editors that know TOML.
    """
    import json
    import logging

    from sightx.registry import loading, project
    from sightx.spec.json_schema import schema

    registry = loading.load_registry(project.find_project(Path.cwd()))
    for warning in registry.warnings():
        logging.getLogger("sightx").warning("%s", warning)
    text = json.dumps(schema(registry), indent=1, sort_keys=True, ensure_ascii=False)
    if file is None:
        click.echo(text)
    else:
        file.write_text(text + "\n", encoding="utf-8")
