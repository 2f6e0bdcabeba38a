"""`sightx schema`: print or write a JSON Schema of specs."""

from __future__ import annotations

from pathlib import Path

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import UserPath


@click.command("schema", short_help="Print a JSON Schema of specs.")
@click.argument("file", required=False, type=UserPath(dir_okay=False))
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
        _write(file, text + "\n")


def _write(file: Path, text: str) -> None:
    """Write a schema; of existing files only another schema of SightX is replaced."""
    from sightx.errors import Problem, SpecError
    from sightx.io import atomic

    if file.is_symlink() or (file.exists() and not _is_our_schema(file)):
        hint = "choose another name, or remove the file first"
        raise SpecError(Problem("exists", f"{file} is not a schema of SightX", hint))
    with atomic.disk_errors(file.absolute().parent):
        atomic.replace(file, text.encode())


def _is_our_schema(file: Path) -> bool:
    import json

    from sightx.spec.json_schema import TITLE

    try:
        return bool(json.loads(file.read_bytes())["title"] == TITLE)
    except (OSError, ValueError, TypeError, KeyError):
        return False
