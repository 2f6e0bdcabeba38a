"""Write a whole experiment as TOML, with the origin of every value in a comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sightx.io import toml
from sightx.io.toml import Key, Position
from sightx.registry.components import path_kind
from sightx.registry.project import LOCAL, place_variable
from sightx.registry.validation_errors import format_key
from sightx.spec.experiment import Context, Experiment
from sightx.spec.merge import OVERRIDE
from sightx.spec.paths import iter_tables

_COMMENT_COLUMN = 44  # longer values do not push the comments of the others to the right
_LINE_WIDTH = 76

Line = tuple[str, str]  # TOML, and the comment behind it


def render_experiment(experiment: Experiment, context: Context) -> str:
    """Return an experiment as a spec with every value, each with its origin."""
    lines = list(_table_lines(experiment.tables(), (), "", value_origins(experiment, context)))
    head = [f"# experiment id: {experiment.id}"]
    if context.path is not None:
        head.append(f"# {as_comment(f'spec: {_relative(context.path, context.path)}')}")
    head += [f"# {as_comment(note)}" for note in context.notes]
    return "\n".join([*head, "", *_aligned(lines), ""])


def render_tables(tables: dict[str, Any], origins: Mapping[str, str] | None = None) -> str:
    """Return tables as a person would write them in a spec.

    `origins`, as `describe_origins` returns them, become comments.
    """
    known = origins or {}
    comments = {key: known.get(format_key(key), "") for key in _value_keys(tables, ())}
    return "\n".join(_aligned(list(_table_lines(tables, (), "", comments)))) + "\n"


def _aligned(lines: list[Line]) -> list[str]:
    """Return lines with their comments in one column."""
    widths = [len(text) for text, comment in lines if comment and len(text) <= _COMMENT_COLUMN]
    width = max(widths, default=0)
    return [f"{text:<{width}}   # {comment}" if comment else text for text, comment in lines]


def describe_experiment(experiment: Experiment, context: Context) -> dict[str, Any]:
    """Return an experiment and the origin of each value, as JSON holds them."""
    return {
        "id": experiment.id,
        "spec": str(context.path) if context.path else None,
        "experiment": experiment.tables(),
        "notes": context.notes,
        "origins": describe_origins(experiment, context),
    }


def describe_origins(experiment: Experiment, context: Context) -> dict[str, str]:
    """Return the origin of each value by its dotted key; {} for an experiment from Python."""
    return {format_key(key): text for key, text in value_origins(experiment, context).items()}


def value_origins(experiment: Experiment, context: Context) -> dict[Key, str]:
    """Return the origin of each value; empty for an experiment that was built in Python."""
    if context.path is None:
        return {}
    origins = _Origins(context)
    return {key: origins.of(key) for key in _value_keys(experiment.tables(), ())}


def as_comment(text: str) -> str:
    """Return a text as a TOML comment can hold it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _value_keys(table: dict[str, Any], key: Key) -> Iterator[Key]:
    """Yield the key of each value that is not a table."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _value_keys(value, (*key, name))
        elif _is_array_of_tables(value):
            for number, item in enumerate(value):
                yield from _value_keys(item, (*key, name, number))
        else:
            yield (*key, name)


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)


def _table_lines(
    table: dict[str, Any], key: Key, header: str, origins: dict[Key, str]
) -> Iterator[Line]:
    """Yield the lines of a table: its values, then the tables inside it."""
    inner = []
    for name, value in table.items():
        if isinstance(value, dict) or _is_array_of_tables(value):
            inner.append((name, value))
        else:
            comment = as_comment(origins.get((*key, name), ""))
            yield from _value_lines(toml.dump_key(name), value, comment)
    for name, value in inner:
        title = f"{header}.{toml.dump_key(name)}" if header else toml.dump_key(name)
        if isinstance(value, dict):
            yield from [("", ""), (f"[{title}]", "")]
            yield from _table_lines(value, (*key, name), title, origins)
        else:
            for number, item in enumerate(value):
                yield from [("", ""), (f"[[{title}]]", "")]
                yield from _table_lines(item, (*key, name, number), title, origins)


def _value_lines(key: str, value: Any, comment: str) -> Iterator[Line]:
    """Yield a value on one line, or a long array with one item per line."""
    text = f"{key} = {toml.dump_value(value)}"
    if not isinstance(value, list) or len(text) <= _LINE_WIDTH:
        yield text, comment
        return
    yield f"{key} = [", comment
    yield from ((f"    {toml.dump_value(item)},", "") for item in value)
    yield "]", ""


def _relative(path: str | Path, spec: Path | None) -> str:
    """Return a path relative to the working folder, or to the folder of the spec, if possible."""
    absolute = Path(path).absolute()
    for folder in (Path.cwd(), *([spec.parent] if spec else [])):
        if absolute.is_relative_to(folder):
            return str(absolute.relative_to(folder))
    return str(path)


class _Origins:
    """Finds what set each value of an experiment."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._positions = context.spec.positions
        self._files: dict[str, Any] = {}  # as written, because the spec has places replaced
        self._path_keys = {
            (*key, name)
            for key, cls, _ in iter_tables(Experiment, context.spec.data, context.registry)
            for name, field in cls.model_fields.items()
            if path_kind(field)
        }

    def of(self, key: Key) -> str:
        """Return the origin of a value: a file and line, an override, or `default`."""
        if position := self._positions.get(key):
            return self._describe(key, position)
        for length in reversed(range(1, len(key))):
            position = self._positions.get(key[:length])
            if position and self._is_in_override(key, length, position):
                return position.file
        return "default"

    def _describe(self, key: Key, position: Position) -> str:
        if position.file.startswith(OVERRIDE):
            return position.file
        line = f"{_relative(position.file, self._context.path)}:{position.line}"
        place = self._describe_place(key, position) if key in self._path_keys else ""
        return f"{line}, {place}" if place else line

    def _describe_place(self, key: Key, position: Position) -> str:
        """Return the place that a path names in its file, and what sets the place; "" for none."""
        if position.file not in self._files:
            self._files[position.file] = toml.read(Path(position.file)).data
        written = _value_at(self._files[position.file], key)
        if not (isinstance(written, str) and written.startswith("@")):
            return ""
        name, project = written[1:].partition("/")[0], self._context.project
        source = place_variable(name)
        if project.place(name) is None:
            source = "not set"
        elif project.place(name) == project.places.get(name):
            source = LOCAL
        return f"place @{name} ({source})"

    def _is_in_override(self, key: Key, length: int, position: Position) -> bool:
        """Return whether an override has set the value as a part of a table or an array."""
        start = position.file.removeprefix(f"{OVERRIDE} ").removesuffix("...")
        for override in self._context.overrides:
            name, _, text = override.partition("=")
            if override.startswith(start) and name.count(".") == length - 1:
                value = toml.parse_value(text, position.file)
                return _value_at(value, key[length:]) is not None
        return False


def _value_at(data: Any, key: Key) -> Any:
    """Return the value at a key, or None."""
    for part in key:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
