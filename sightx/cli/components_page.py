"""The page of the docs that lists all components and sections with their settings.

`python -m sightx.cli.components_page > docs/components.md` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightx.cli.show_plugin import TOP_LEVEL, describe, describe_section
from sightx.io import toml
from sightx.registry.kinds import KINDS
from sightx.registry.loading import load_registry
from sightx.registry.project import Project
from sightx.spec.sections import own_sections

_HEAD = """\
# Components and their settings

All components that ship with SightX, by their kind, then the sections of a spec that are settings
of SightX itself. `sightx list-plugins` and `sightx show-plugin KIND NAME` print the same, also for
components of installed plugins. `python -m sightx.cli.components_page > docs/components.md` writes
this page.
"""
_ESCAPES = str.maketrans({"|": "\\|", "\t": "\\t"})  # of a table's cell


def docs_page() -> str:
    """Return the page as Markdown."""
    registry = load_registry(Project(Path()))
    lines = [_HEAD]
    for kind in (cls.kind for cls in KINDS):
        lines.append(f"## {kind}\n")
        for entry in registry.entries(kind):
            if entry.plugin.is_builtin:
                lines += _described(entry.component.name, describe(registry, entry))
    lines.append("## Sections\n")
    for section in (TOP_LEVEL, *own_sections()):
        lines += _described(section, describe_section(section))
    return "\n".join(lines)


def _described(name: str, described: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    yield described["doc"] + "\n"
    if described["fields"]:
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        yield from (_row(field) for field in described["fields"])
        yield ""


def _row(field: dict[str, Any]) -> str:
    default = "" if field["default"] is None else f"`{toml.dump_value(field['default'])}`"
    default = "required" if field["required"] else default
    cells = [f"`{field['key']}`", field["type"], default, " ".join(field["description"].split())]
    return f"| {' | '.join(cell.translate(_ESCAPES) for cell in cells)} |"


if __name__ == "__main__":
    print(docs_page(), end="")
