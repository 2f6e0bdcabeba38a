"""What a project says for all its specs, and what a machine says for itself.

`[tool.sightx]` of the nearest `pyproject.toml` holds plugins, observers and runs; the untracked
`sightx.local.toml` beside it holds `[places]`, `[execution]`, cache and runs; `SIGHTX_PLACE_NAME`
sets one place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sightx.io import toml
from sightx.io.toml import Document, Key, Position
from sightx.registry.components import Kind, Settings, validate_settings
from sightx.registry.validation_errors import explain_errors, spec_failure

PROJECT = "pyproject.toml"
LOCAL = "sightx.local.toml"
_TOOL: Key = ("tool", "sightx")


class ProjectSettings(Settings):
    """What `[tool.sightx]` may say."""

    plugins: tuple[str, ...] = ()
    """Folders of plugins."""
    observers: tuple[str, ...] = ()
    """Observers that watch every run."""
    runs: str | None = None
    """The folder of runs."""


class LocalSettings(Settings):
    """What `sightx.local.toml` may say."""

    places: Mapping[str, str] = {}
    """Where each place is on this machine."""
    execution: Mapping[str, Any] = {}
    """Defaults of `[execution]`."""
    cache: str | None = None
    """The folder of prepared pixels."""
    runs: str | None = None
    """The folder of runs."""


@dataclass(frozen=True)
class Project:
    """Hold a project's settings; every path is absolute.

    `observers` are names, each with its place in a file; `defaults` is what lies under every
    spec: this machine's `[execution]`.
    """

    root: Path
    plugins: tuple[Path, ...] = ()
    observers: Mapping[str, Position] = field(default_factory=dict)
    runs: Path = Path("runs")
    cache: Path | None = None
    places: Mapping[str, Path] = field(default_factory=dict)
    defaults: Document = field(default_factory=lambda: Document(LOCAL, "", {}, {}))

    def place(self, name: str) -> Path | None:
        """Return where the place `@name` is on this machine, or None."""
        variable = os.environ.get(place_variable(name))
        return expand_home(variable).absolute() if variable else self.places.get(name)


def place_variable(name: str) -> str:
    """Return the environment variable that sets a place."""
    return "SIGHTX_PLACE_" + re.sub(r"\W", "_", name).upper()


def expand_home(path: str) -> Path:
    """Return a path with a leading `~` made the user's folder, where there is such a user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises


def find_project(start: Path) -> Project:
    """Return the project that a folder lies in; without one, the folder itself is its root.

    Raises SpecError where the project's files say what they may not.
    """
    root, source = _nearest(start.absolute())
    said = _read(ProjectSettings, source, _TOOL)
    local = _source(root / LOCAL)
    own = _read(LocalSettings, local, ())
    runs = own.runs or said.runs
    return Project(
        root=root,
        plugins=tuple(root / path for path in said.plugins),
        observers={
            name: source.position((*_TOOL, "observers", number))
            for number, name in enumerate(said.observers)
        },
        runs=root / runs if runs else Path.cwd() / "runs",
        cache=root / expand_home(own.cache) if own.cache else None,
        places={key: root / expand_home(path) for key, path in own.places.items()},
        defaults=_only(local, "execution"),
    )


def _nearest(folder: Path) -> tuple[Path, Document]:
    """Return the nearest folder whose pyproject.toml has our table, and that file."""
    for candidate in (folder, *folder.parents):
        source = _source(candidate / PROJECT)
        if isinstance(tool := source.data.get("tool"), dict) and "sightx" in tool:
            return candidate, source
    return folder, Document(PROJECT, "", {"tool": {"sightx": {}}}, {})


def _source(path: Path) -> Document:
    """Read a file, or nothing where there is none."""
    there = os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises where it may not look
    return toml.read(path) if there else Document(str(path), "", {}, {})


def _read(cls: type[Kind], source: Document, key: Key) -> Kind:
    """Return what a table of a file says. Raises SpecError with a place for each problem."""
    data: Any = source.data
    for part in key:
        data = data[part]
    try:
        return validate_settings(cls, data)
    except ValidationError as error:

        def position(inner: Key) -> Position:
            return source.position((*key, *inner))

        raise spec_failure(
            explain_errors(error, position, lambda inner: None if inner else cls)
        ) from None


def _only(source: Document, section: str) -> Document:
    """Return one section of a document, with its places."""
    data = {key: value for key, value in source.data.items() if key == section}
    places = {key: place for key, place in source.positions.items() if key[0] == section}
    return Document(source.name, source.text, data, places)
