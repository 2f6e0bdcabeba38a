"""Settings of a project, and of this machine.

The table `[tool.sightx]` of the nearest `pyproject.toml` holds plugins, observers and runs. The
untracked `sightx.local.toml` next to it holds `[places]`, `[execution]`, cache and runs. The
environment variable `SIGHTX_PLACE_NAME` sets one place.
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
from sightx.io.files import user_path
from sightx.io.toml import Document, Key, Position
from sightx.registry.components import Settings, SettingsType, validate_settings
from sightx.registry.validation_errors import explain_errors, spec_failure

PROJECT = "pyproject.toml"
LOCAL = "sightx.local.toml"
_TABLE: Key = ("tool", "sightx")


class ProjectSettings(Settings):
    """The table `[tool.sightx]`."""

    plugins: tuple[str, ...] = ()
    """Folders of plugins."""
    observers: tuple[str, ...] = ()
    """Observers of every run."""
    runs: str | None = None
    """Folder of the runs."""


class LocalSettings(Settings):
    """The file `sightx.local.toml`."""

    places: Mapping[str, str] = {}
    """Folder of each place on this machine."""
    execution: Mapping[str, Any] = {}
    """Defaults of `[execution]`."""
    cache: str | None = None
    """Folder of the pixel cache."""
    runs: str | None = None
    """Folder of the runs."""


@dataclass(frozen=True)
class Project:
    """The settings of a project and of this machine; all paths are absolute.

    Attributes:
        root: The folder of `pyproject.toml`, or the folder of the spec if there is no project.
        plugins: Folders of plugins.
        observers: Names of the observers of every run, each with its position in a file.
        runs: Folder of the runs.
        cache: Folder of the pixel cache; None for the default.
        places: Folder of each place, by name.
        defaults: What specs of this project override: `[execution]` of this machine.
    """

    root: Path
    plugins: tuple[Path, ...] = ()
    observers: Mapping[str, Position] = field(default_factory=dict)
    runs: Path = Path("runs")
    cache: Path | None = None
    places: Mapping[str, Path] = field(default_factory=dict)
    defaults: Document = field(default_factory=lambda: Document(LOCAL, "", {}, {}))

    def place(self, name: str) -> Path | None:
        """Return the folder of the place `@name` on this machine, None if it is not set."""
        folder = os.environ.get(place_variable(name))
        return user_path(folder).absolute() if folder else self.places.get(name)


def place_variable(name: str) -> str:
    """Return the environment variable that sets a place."""
    return "SIGHTX_PLACE_" + re.sub(r"\W", "_", name).upper()


def find_project(start: Path) -> Project:
    """Return the project that a folder belongs to; its root is the folder itself if there is none.

    Raises SpecError if the project's files have wrong settings.
    """
    root, document = _nearest_project(start.absolute())
    settings = _validate(ProjectSettings, document, _TABLE)
    local_document = _read_if_there(root / LOCAL)
    local = _validate(LocalSettings, local_document, ())
    runs = local.runs or settings.runs
    return Project(
        root=root,
        plugins=tuple(root / user_path(path) for path in settings.plugins),
        observers={
            name: document.position((*_TABLE, "observers", number))
            for number, name in enumerate(settings.observers)
        },
        runs=root / user_path(runs) if runs else Path.cwd() / "runs",
        cache=root / user_path(local.cache) if local.cache else None,
        places={key: root / user_path(path) for key, path in local.places.items()},
        defaults=_section(local_document, "execution"),
    )


def _nearest_project(folder: Path) -> tuple[Path, Document]:
    """Return the nearest folder whose pyproject.toml has `[tool.sightx]`, and that file."""
    for candidate in (folder, *folder.parents):
        document = _read_if_there(candidate / PROJECT)
        if isinstance(tool := document.data.get("tool"), dict) and "sightx" in tool:
            return candidate, document
    return folder, Document(PROJECT, "", {"tool": {"sightx": {}}}, {})


def _read_if_there(path: Path) -> Document:
    """Read a TOML file; return an empty document if it does not exist."""
    exists = os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises without permission
    return toml.read(path) if exists else Document(str(path), "", {}, {})


def _validate(cls: type[SettingsType], document: Document, key: Key) -> SettingsType:
    """Return the settings in a table of a file. Raises SpecError with every problem."""
    data: Any = document.data
    for part in key:
        data = data[part]
    try:
        return validate_settings(cls, data)
    except ValidationError as error:

        def position(inner: Key) -> Position:
            return document.position((*key, *inner))

        raise spec_failure(
            explain_errors(error, position, lambda inner: None if inner else cls)
        ) from None


def _section(document: Document, name: str) -> Document:
    """Return one section of a document, with its positions."""
    data = {key: value for key, value in document.data.items() if key == name}
    positions = {key: at for key, at in document.positions.items() if key[0] == name}
    return Document(document.name, document.text, data, positions)
