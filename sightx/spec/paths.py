"""Walk over the raw tables of a spec, next to the classes that will validate them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightx.errors import Problem
from sightx.io.files import hint_for_missing, is_unicode, user_path
from sightx.io.toml import Document, Key, Position
from sightx.registry.components import (
    Component,
    ComponentLookup,
    PathKind,
    Settings,
    UnknownComponentError,
    path_kind,
    table_class,
)
from sightx.registry.project import Project
from sightx.spec.merge import OVERRIDE, Table


def iter_tables(
    cls: type[Settings], data: Table, registry: ComponentLookup, key: Key = ()
) -> Iterator[tuple[Key, type[Settings], Table]]:
    """Yield every table with its key and its class; skip those whose `use` is unknown."""
    yield key, cls, data
    for name, field in cls.model_fields.items():
        table_cls = table_class(field.annotation)
        if table_cls is None or name not in data:
            continue
        for item_key, item in _tables_in((*key, name), data[name]):
            item_cls = _class_of(table_cls, item, registry)
            if item_cls is not None:
                yield from iter_tables(item_cls, item, registry, item_key)


def _tables_in(key: Key, value: Any) -> Iterator[tuple[Key, Table]]:
    if isinstance(value, dict):
        yield key, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict):
                yield (*key, number), item


def _class_of(
    cls: type[Settings], table: Table, registry: ComponentLookup
) -> type[Settings] | None:
    """Return the class that validates a table, None if its `use` is unknown."""
    if not issubclass(cls, Component) or hasattr(cls, "name"):
        return cls
    try:
        return registry.find(cls.kind, str(table.get("use")))
    except UnknownComponentError:
        return None


def resolve_paths(
    cls: type[Settings], spec: Document, registry: ComponentLookup, project: Project
) -> None:
    """Make every path of a spec absolute, in place.

    A relative path belongs to the folder of the file that contains it, and to the working folder if
    it comes from `--set` or Python. `"@name"` is replaced by the folder of the place; a place that
    is not set stays, so that the dataset can say how to get the data.
    """
    for key, table_cls, table in iter_tables(cls, spec.data, registry):
        for name, field in table_cls.model_fields.items():
            kind = path_kind(field)
            if kind is None or name not in table:
                continue
            folder = _folder_of(spec.position((*key, name)))
            value = table[name]
            if isinstance(value, list):
                table[name] = [_absolute(item, kind, folder, project) for item in value]
            else:
                table[name] = _absolute(value, kind, folder, project)


def path_hint(spec: Document, key: Key) -> str:
    """Return a hint that says to which folder a relative path of a setting belongs."""
    file = spec.position(key).file
    folder = f"the folder of {file}"
    if not file or file.startswith(OVERRIDE):
        folder = "the working folder, because it is from --set or Python"
    return f"a relative path belongs to {folder}; ~ is the home folder"


def _folder_of(position: Position) -> Path:
    if not position.file or position.file.startswith(OVERRIDE):
        return Path.cwd()
    return Path(position.file).absolute().parent


def _absolute(value: Any, kind: PathKind, folder: Path, project: Project) -> Any:
    if not isinstance(value, str) or (kind.suffixes and not value.endswith(kind.suffixes)):
        return value
    if kind.urls and "://" in value:
        return value
    if value.startswith("@"):
        name, _, below = value[1:].partition("/")
        place = project.place(name)
        return str(place / below) if place else value
    return str(folder / user_path(value))


def undecodable_texts(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Yield texts that are not Unicode: paths with bytes that are not UTF-8."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for part, item in items:
        if isinstance(item, (dict, list)):
            yield from undecodable_texts(item, (*key, part))
        elif isinstance(item, (str, Path)) and not is_unicode(str(item)):
            yield (*key, part), str(item)


def stringify_dates(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Replace dates and times by strings, in place, and yield them: no setting is a date."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for part, item in list(items):
        if isinstance(item, (datetime.date, datetime.time)):
            value[part] = str(item)
            yield (*key, part), str(item)
        elif isinstance(item, (dict, list)):
            yield from stringify_dates(item, (*key, part))


def missing_places(settings: Settings, section: str) -> Iterator[Problem]:
    """Yield a problem for each folder or file of a section that is not on this machine.

    It names a neighbour with nearly the same name. Places that are not set, such as `@eyepacs`, and
    URLs are left out.
    """
    for key, field in type(settings).model_fields.items():
        value = getattr(settings, key)
        if path_kind(field) is None or not isinstance(value, str | Path):
            continue
        path = Path(value)
        if not path.is_absolute() or os.path.lexists(path):
            continue
        hint = hint_for_missing(path) or f"--set {section}.{key}=PATH names another"
        yield Problem("missing-data", f"{path} does not exist", hint, f"{section}.{key}")
