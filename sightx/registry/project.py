"""What a project says for all its specs, and what a machine says for itself.

`[tool.sightx]` of the nearest `pyproject.toml` holds plugins, observers and runs; the untracked
`sightx.local.toml` beside it holds `[places]`, `[execution]` and runs; `SIGHTX_PLACE_NAME` sets
one place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightx import document

LOCAL = "sightx.local.toml"


@dataclass(frozen=True)
class Project:
    """Hold a project's settings; every path is absolute."""

    root: Path
    plugins: tuple[Path, ...] = ()
    observers: tuple[str, ...] = ()
    runs: Path = Path("runs")
    places: Mapping[str, Path] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)

    def place(self, name: str) -> Path | None:
        """Return where the place `@name` is on this machine, or None."""
        variable = os.environ.get(place_variable(name))
        return Path(variable).absolute() if variable else self.places.get(name)


def place_variable(name: str) -> str:
    """Return the environment variable that sets a place."""
    return "SIGHTX_PLACE_" + name.upper().replace("-", "_")


def find(start: Path) -> Project:
    """Return the project that a folder lies in; without one, the folder itself is its root."""
    folder = start.absolute()
    table: dict[str, Any] = {}
    root = folder
    for candidate in (folder, *folder.parents):
        found = _tool_table(candidate / "pyproject.toml")
        if found is not None:
            root, table = candidate, found
            break
    local = _local(root)
    runs = local.get("runs", table.get("runs"))
    return Project(
        root=root,
        plugins=tuple(root / path for path in table.get("plugins", [])),
        observers=tuple(table.get("observers", [])),
        runs=root / runs if runs else Path.cwd() / "runs",
        places={key: root / Path(path).expanduser() for key, path in local.get("places", {}).items()},
        execution=local.get("execution", {}),
    )


def _tool_table(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    table: dict[str, Any] | None = document.read(path).data.get("tool", {}).get("sightx")
    return table


def _local(root: Path) -> dict[str, Any]:
    path = root / LOCAL
    return document.read(path).data if path.is_file() else {}
