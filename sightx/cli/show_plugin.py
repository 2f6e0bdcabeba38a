"""`sightx show-plugin`: describe a component and its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_origin

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import check_kind

if TYPE_CHECKING:
    from sightx.registry.introspection import FieldDescription
    from sightx.registry.registry import Entry, Registry


@click.command("show-plugin", short_help="Describe a component and its settings.")
@click.argument("kind", callback=check_kind)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str, name: str, as_json: bool) -> None:
    """Describe the component NAME of a KIND: its purpose, its settings, a table to copy.

    NAME may be owner:name, if two plugins provide the same name.
    """
    from sightx.errors import PluginError, SpecError
    from sightx.registry.components import UnknownComponentError

    registry = load_project_registry()
    try:
        entry = registry.find_entry(kind, name)
    except UnknownComponentError as error:
        is_unknown = error.problem.code == "unknown-name"
        raise (SpecError if is_unknown else PluginError)(error.problem) from None
    described = describe(registry, entry)
    click.echo(json.dumps(described, indent=1) if as_json else "\n".join(_lines(described)))


def describe(registry: Registry, entry: Entry) -> dict[str, Any]:
    """Return everything that is known about a component, as JSON holds it."""
    from sightx.registry.introspection import describe_fields, docstring

    fields = describe_fields(entry.component, lambda kind: _example_name(registry, kind))
    keys = ("key", "type", "required", "default", "description")
    return {
        **registry.describe_entry(entry),
        "doc": docstring(entry.component),
        "fields": [{key: asdict(field)[key] for key in keys} for field in fields],
        "example": "\n".join(_example(registry, entry, fields)) + "\n",
    }


def _example_name(registry: Registry, kind: str) -> str:
    """Return the name of a component of a kind, if possible of one without required settings."""
    entries = registry.entries(kind)
    entries.sort(key=lambda e: any(f.is_required() for f in e.component.model_fields.values()))
    return entries[0].component.name if entries else "CHANGE-ME"


def _example(registry: Registry, entry: Entry, fields: list[FieldDescription]) -> Iterator[str]:
    """Yield a table to copy: the required keys, then every default as a comment."""
    from sightx.io import toml
    from sightx.spec.experiment import Experiment

    component, plugin = entry.component, entry.plugin
    is_array = get_origin(Experiment.model_fields[component.kind].annotation) is tuple
    yield f"[[{component.kind}]]" if is_array else f"[{component.kind}]"
    owner = f"{plugin.distribution or plugin.name}:" if registry.clashes(entry) else ""
    yield f'use = "{owner}{component.name}"'
    for field in fields:
        if field.required:
            yield f"{field.key} = {toml.dump_value(field.example)}  # required: {field.type}"
        elif field.default is not None:
            yield f"# {field.key} = {toml.dump_value(field.default)}"


def _lines(described: dict[str, Any]) -> Iterator[str]:
    """Yield the description as text."""
    from sightx.io import toml

    owner = f"{described['distribution']} {described['version']}".strip()
    yield f"{described['kind']} {described['name']}"
    yield ""
    yield described["doc"]
    yield ""
    yield f"plugin    {described['plugin']}" + (f" ({owner})" if owner else "")
    yield f"revision  {described['revision']}"
    yield f"file      {described['place']}"
    for other in described["clashes"]:
        yield f"clash     {other} provides this name too"
    width = max((len(field["key"]) for field in described["fields"]), default=0)
    for field in described["fields"]:
        default = field["default"]
        presence = "optional" if default is None else f"default {toml.dump_value(default)}"
        presence = "required" if field["required"] else presence
        yield f"\n{field['key']:<{width}}  {field['type']}; {presence}"
        if field["description"]:
            yield f"{'':<{width}}  {field['description']}"
    yield ""
    yield described["example"].rstrip()
