"""`sightx show-plugin`: describe a component and its settings."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_origin

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import json_output, print_json, unknown_kind

if TYPE_CHECKING:
    from sightx.registry.introspection import FieldDescription
    from sightx.registry.registry import Entry, Registry


TOP_LEVEL = "experiment"
"""What the keys above the sections of a spec are called here."""


@click.command("show-plugin", short_help="Describe a component, or a section, and its settings.")
@click.argument("kind", metavar="KIND|SECTION")
@click.argument("name", required=False)
@json_output
def command(kind: str, name: str | None, as_json: bool) -> None:
    """Describe the component NAME of a KIND: its purpose, its settings, a table to copy.

    NAME may be owner:name, if two plugins provide the same name. Sections of a spec that do not
    name a component are described without a NAME: training, evaluation, execution, and
    experiment for the keys above all sections.
    """
    from sightx.spec.sections import own_sections

    sections = [TOP_LEVEL, *own_sections()]
    if kind in sections:
        _refuse_name(kind, name)
        described = describe_section(kind)
    else:
        described = _describe_component(kind, name, sections)
    if as_json:
        print_json(described)
    else:
        click.echo("\n".join(_lines(described)))


def _describe_component(kind: str, name: str | None, sections: list[str]) -> dict[str, Any]:
    """Describe a component. Raise SpecError or PluginError if there is none."""
    from sightx.errors import PluginError, Problem, SpecError
    from sightx.registry.components import UnknownComponentError
    from sightx.registry.kinds import KINDS

    if kind not in [cls.kind for cls in KINDS]:
        raise unknown_kind(kind, sections)
    if name is None:
        hint = f"sightx list-plugins {kind} lists them"
        raise SpecError(Problem("usage", f"which {kind}? Give its name", hint))
    registry = load_project_registry()
    try:
        entry = registry.find_entry(kind, name)
    except UnknownComponentError as error:
        is_unknown = error.problem.code == "unknown-name"
        raise (SpecError if is_unknown else PluginError)(error.problem) from None
    return describe(registry, entry)


def _refuse_name(section: str, name: str | None) -> None:
    from sightx.errors import Problem, SpecError

    if name is not None:
        message = f"{section} is a section of every spec, and {name!r} is not a part of it"
        raise SpecError(Problem("usage", message, f"sightx show-plugin {section}"))


def describe_section(section: str) -> dict[str, Any]:
    """Return everything that is known about a section of SightX itself, as JSON holds it."""
    from sightx.registry.introspection import FieldDescription, describe_fields, docstring
    from sightx.spec.experiment import Experiment
    from sightx.spec.sections import own_sections, top_level_keys

    cls = own_sections().get(section, Experiment)
    fields = describe_fields(cls)
    if cls is Experiment:
        fields = [field for field in fields if field.key in top_level_keys()]
        about = "Spec whose values this one has, unless it sets them itself."
        fields.append(FieldDescription("extends", "path", False, None, about, "base.toml"))
    header = [] if cls is Experiment else [f"[{section}]"]
    return {
        "section": section,
        "doc": "The keys above all sections of a spec." if cls is Experiment else docstring(cls),
        "fields": _as_json(fields),
        "example": "\n".join([*header, *_settings(fields)]) + "\n",
    }


def _as_json(fields: list[FieldDescription]) -> list[dict[str, Any]]:
    keys = ("key", "type", "required", "default", "description")
    return [{key: asdict(field)[key] for key in keys} for field in fields]


def describe(registry: Registry, entry: Entry) -> dict[str, Any]:
    """Return everything that is known about a component, as JSON holds it."""
    from sightx.registry.introspection import describe_fields, docstring

    fields = describe_fields(entry.component, lambda kind: _example_name(registry, kind))
    return {
        **registry.describe_entry(entry),
        "doc": docstring(entry.component),
        "fields": _as_json(fields),
        "example": "\n".join(_example(registry, entry, fields)) + "\n",
    }


def _example_name(registry: Registry, kind: str) -> str:
    """Return the name of a component of a kind, if possible of one without required settings."""
    entries = registry.entries(kind)
    entries.sort(key=lambda e: any(f.is_required() for f in e.component.model_fields.values()))
    return entries[0].component.name if entries else "CHANGE-ME"


def _example(registry: Registry, entry: Entry, fields: list[FieldDescription]) -> Iterator[str]:
    """Yield a table to copy: the required keys, then every default as a comment."""
    from sightx.spec.experiment import Experiment

    component, plugin = entry.component, entry.plugin
    is_array = get_origin(Experiment.model_fields[component.kind].annotation) is tuple
    yield f"[[{component.kind}]]" if is_array else f"[{component.kind}]"
    owner = f"{plugin.distribution or plugin.name}:" if registry.clashes(entry) else ""
    yield f'use = "{owner}{component.name}"'
    yield from _settings(fields)


def _settings(fields: list[FieldDescription]) -> Iterator[str]:
    """Yield the required keys of a table, then every default as a comment."""
    from sightx.io import toml

    for field in fields:
        if field.required:
            yield f"{field.key} = {toml.dump_value(field.example)}  # required: {field.type}"
        elif field.default is not None:
            yield f"# {field.key} = {toml.dump_value(field.default)}"


def _origin_lines(described: dict[str, Any]) -> Iterator[str]:
    """Yield who provides a component, and where it is written."""
    owner = f"{described['distribution']} {described['version']}".strip()
    yield f"plugin    {described['plugin']}" + (f" ({owner})" if owner else "")
    yield f"revision  {described['revision']}"
    yield f"file      {described['place']}"
    for other in described["clashes"]:
        yield f"clash     {other} provides this name too"


def _indent(text: str, width: int) -> str:
    """Return an indented text, on a terminal wrapped at its edge."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(text) + width
    wrapped = textwrap.wrap(text, max(columns - width, 20))
    return textwrap.indent("\n".join(wrapped), " " * width)


def _lines(described: dict[str, Any]) -> Iterator[str]:
    """Yield the description as text."""
    from sightx.io import toml

    yield described.get("section") or f"{described['kind']} {described['name']}"
    yield ""
    yield described["doc"]
    if "plugin" in described:
        yield ""
        yield from _origin_lines(described)
    width = max((len(field["key"]) for field in described["fields"]), default=0)
    for field in described["fields"]:
        default = field["default"]
        presence = "optional" if default is None else f"default {toml.dump_value(default)}"
        presence = "required" if field["required"] else presence
        yield f"\n{field['key']:<{width}}  {field['type']}; {presence}"
        if field["description"]:
            yield _indent(field["description"], width + 2)
    yield ""
    yield described["example"].rstrip()
