"""Walk raw spec data beside the classes that will validate them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from sightx.io.toml import Document, Key, Position
from sightx.registry.components import Component, PathKind, Settings, table_class
from sightx.registry.project import Project, expand_home
from sightx.registry.registry import Registry

Table = dict[str, Any]


def iter_tables(
    cls: type[Settings], data: Table, registry: Registry, key: Key = ()
) -> Iterator[tuple[Key, type[Settings], Table]]:
    """Yield every table with its key and the class it is for; unknown names are passed over."""
    yield key, cls, data
    for name, info in cls.model_fields.items():
        inner = table_class(info.annotation)
        if inner is None or name not in data:
            continue
        for item_key, item in _items((*key, name), data[name]):
            found = _named(inner, item, registry)
            if found is not None:
                yield from iter_tables(found, item, registry, item_key)


def path_kind(info: FieldInfo) -> PathKind | None:
    """Return the mark of a field that holds a path, or several."""
    marks = [*info.metadata, *_marks(info.annotation)]
    return next((mark for mark in marks if isinstance(mark, PathKind)), None)


def resolve_paths(
    cls: type[Settings], spec: Document, registry: Registry, project: Project
) -> None:
    """Make every path of a spec absolute, in place.

    `"@name"` becomes the place it stands for; what is not set stays as it is, for the dataset to
    say how to get it. A relative path belongs to the file that wrote it, one of `--set` to the
    working directory.
    """
    for key, table_cls, table in iter_tables(cls, spec.data, registry):
        for name, info in table_cls.model_fields.items():
            mark = path_kind(info)
            if mark is None or name not in table:
                continue
            base = _base(spec.position((*key, name)))
            value = table[name]
            if isinstance(value, list):
                table[name] = [_absolute(item, mark, base, project) for item in value]
            else:
                table[name] = _absolute(value, mark, base, project)


def stringify_dates(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Turn dates and times into strings, in place, and yield them: no setting is one."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for part, item in list(pairs):
        if isinstance(item, (datetime.date, datetime.time)):
            value[part] = str(item)
            yield (*key, part), str(item)
        elif isinstance(item, (dict, list)):
            yield from stringify_dates(item, (*key, part))


def _absolute(value: Any, mark: PathKind, base: Path, project: Project) -> Any:
    if not isinstance(value, str) or (mark.suffixes and not value.endswith(mark.suffixes)):
        return value
    if mark.urls and "://" in value:
        return value
    if value.startswith("@"):
        name, _, rest = value[1:].partition("/")
        place = project.place(name)
        return str(place / rest) if place else value
    return str(base / expand_home(value))


def _base(position: Position) -> Path:
    if position.file.startswith("--set"):
        return Path.cwd()
    return Path(position.file).absolute().parent


def _marks(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return list(annotation.__metadata__)
    return [mark for part in get_args(annotation) for mark in _marks(part)]


def _items(key: Key, value: Any) -> Iterator[tuple[Key, Table]]:
    if isinstance(value, dict):
        yield key, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict):
                yield (*key, number), item


def _named(cls: type[Settings], table: Table, registry: Registry) -> type[Settings] | None:
    """Return the class that a table is for, or None where its name is unknown."""
    if not issubclass(cls, Component) or hasattr(cls, "name"):
        return cls
    try:
        return registry.find(cls.kind, str(table.get("use")))
    except PydanticCustomError:
        return None
