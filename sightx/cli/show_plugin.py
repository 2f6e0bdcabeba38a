"""`sightx show-plugin`: say what one component is and what its table may hold."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

import click

from sightx.cli.options import a_kind

if TYPE_CHECKING:
    from sightx.registry.introspection import Field
    from sightx.registry.registry import Entry, Registry


@click.command("show-plugin", short_help="Show the settings of a component.")
@click.argument("kind", callback=a_kind)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str, name: str, as_json: bool) -> None:
    """Show the component NAME of a KIND: what it is, its settings, a table to paste.

    NAME may be owner:name, where two plugins bring it.
    """
    from sightx.registry import loading, project

    registry = loading.load_registry(project.find_project(Path.cwd()))
    record = describe(registry, _entry(registry, kind, name))
    click.echo(json.dumps(record, indent=1) if as_json else "\n".join(_lines(record)))


def describe(registry: Registry, entry: Entry) -> dict[str, Any]:
    """Return everything that is known of a component, as JSON holds it."""
    from sightx.registry.introspection import fields

    found = fields(entry.component, lambda kind: _some(registry, kind))
    return {
        **registry.record(entry),
        "doc": inspect.cleandoc(entry.component.__doc__ or ""),
        "fields": [
            {
                "key": field.key,
                "type": field.type,
                "required": field.required,
                "default": field.default,
                "description": field.description,
            }
            for field in found
        ],
        "example": "\n".join(_example(registry, entry, found)) + "\n",
    }


def _entry(registry: Registry, kind: str, name: str) -> Entry:
    """Return what a name means. Raises SpecError, PluginError."""
    from pydantic_core import PydanticCustomError

    from sightx.errors import PluginError, Problem, SpecError

    try:
        return registry.named(kind, name)
    except PydanticCustomError as error:
        hint = str((error.context or {}).get("hint", ""))
        problem = Problem(error.type, error.message(), hint)
        known = error.type == "unknown-name"
        raise (SpecError if known else PluginError)(problem) from None


def _some(registry: Registry, kind: str) -> str:
    """Return the name of a component of a kind, of one that needs no settings if there is any."""
    entries = registry.entries(kind)
    needy = {
        entry: any(info.is_required() for info in entry.component.model_fields.values())
        for entry in entries
    }
    return next((e.component.name for e in sorted(entries, key=needy.__getitem__)), "CHANGE-ME")


def _example(registry: Registry, entry: Entry, fields: list[Field]) -> Iterator[str]:
    """Yield a table that can be pasted: what is required, then every default as a comment."""
    from sightx.io import toml
    from sightx.spec.experiment import Experiment

    component, plugin = entry.component, entry.plugin
    array = get_origin(Experiment.model_fields[component.kind].annotation) is tuple
    yield f"[[{component.kind}]]" if array else f"[{component.kind}]"
    owner = f"{plugin.distribution or plugin.name}:" if registry.clashes(entry) else ""
    yield f'use = "{owner}{component.name}"'
    for field in fields:
        if field.required:
            yield f"{field.key} = {toml.dump_value(field.example)}  # required: {field.type}"
        elif field.default is not None:
            yield f"# {field.key} = {toml.dump_value(field.default)}"


def _lines(record: dict[str, Any]) -> Iterator[str]:
    """Yield what a person reads."""
    owner = f"{record['distribution']} {record['version']}".strip()
    yield f"{record['kind']} {record['name']}"
    yield ""
    yield record["doc"]
    yield ""
    yield f"plugin    {record['plugin']}" + (f" ({owner})" if owner else "")
    yield f"revision  {record['revision']}"
    yield f"file      {record['place']}"
    for other in record["clashes"]:
        yield f"clash     {other} brings this name too"
    width = max((len(field["key"]) for field in record["fields"]), default=0)
    for field in record["fields"]:
        yield f"\n{field['key']:<{width}}  {field['type']}; {_given(field)}"
        if field["description"]:
            yield f"{'':<{width}}  {field['description']}"
    yield ""
    yield record["example"].rstrip()


def _given(field: dict[str, Any]) -> str:
    """Return what holds where a table does not say a field."""
    from sightx.io import toml

    if field["required"]:
        return "required"
    default = field["default"]
    return "may be left out" if default is None else f"default {toml.dump_value(default)}"
