"""Write an experiment whole: as TOML, with the origin of every value beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightx.io import toml
from sightx.io.toml import Key, Position
from sightx.registry.components import Traits
from sightx.registry.project import LOCAL, place_variable
from sightx.registry.validation_errors import format_key
from sightx.spec.experiment import Context, Experiment
from sightx.spec.merge import OVERRIDE
from sightx.spec.paths import iter_tables, path_kind

_NARROW = 44  # longer values do not push the comments of the others to the right
_ONE_LINE = 76

Line = tuple[str, str]  # TOML, and the comment behind it


def render_toml(experiment: Experiment) -> str:
    """Return the experiment as a spec that says everything, each value with its origin."""
    named = value_origins(experiment)
    lines = list(_table(experiment.tables(), (), "", named))
    widths = [len(text) for text, comment in lines if comment and len(text) <= _NARROW]
    width = max(widths, default=0)
    head = [f"# experiment id: {experiment.id}"]
    if (path := experiment.context.path) is not None:
        head.append(f"# {as_comment(f'spec: {_near(path, path)}')}")
    body = [f"{text:<{width}}   # {comment}" if comment else text for text, comment in lines]
    return "\n".join([*head, "", *body, ""])


def render_plain(tables: dict[str, Any]) -> str:
    """Return tables as a person would write them in a spec."""
    return "\n".join([text for text, _ in _table(tables, (), "", {})]) + "\n"


def describe_experiment(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment and the origin of each value as JSON holds them."""
    return {
        "id": experiment.id,
        "spec": str(experiment.context.path) if experiment.context.path else None,
        "experiment": experiment.tables(),
        "origins": {format_key(key): text for key, text in value_origins(experiment).items()},
    }


def value_origins(experiment: Experiment) -> dict[Key, str]:
    """Return where each value comes from; nothing for an experiment that was made in Python."""
    if experiment.context.path is None:
        return {}
    sources = _Sources(experiment.context, experiment.dataset.traits())
    return {key: sources.of(key, value) for key, value in _values(experiment.tables(), ())}


def _values(table: dict[str, Any], key: Key) -> Iterator[tuple[Key, Any]]:
    """Yield each value that is no table, with its key."""
    for name, value in table.items():
        here = (*key, name)
        if isinstance(value, dict):
            yield from _values(value, here)
        elif _are_tables(value):
            for number, item in enumerate(value):
                yield from _values(item, (*here, number))
        else:
            yield here, value


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)


def _table(table: dict[str, Any], key: Key, header: str, named: dict[Key, str]) -> Iterator[Line]:
    """Yield the lines of a table: its values, then the tables inside it."""
    inner = []
    for name, value in table.items():
        if isinstance(value, dict) or _are_tables(value):
            inner.append((name, value))
        else:
            yield from _value(toml.dump_key(name), value, as_comment(named.get((*key, name), "")))
    for name, value in inner:
        title = f"{header}.{toml.dump_key(name)}" if header else toml.dump_key(name)
        if isinstance(value, dict):
            yield from [("", ""), (f"[{title}]", "")]
            yield from _table(value, (*key, name), title, named)
        else:
            for number, item in enumerate(value):
                yield from [("", ""), (f"[[{title}]]", "")]
                yield from _table(item, (*key, name, number), title, named)


def _value(word: str, value: Any, comment: str) -> Iterator[Line]:
    """Yield a value on one line, or a long array on one line an item."""
    text = f"{word} = {toml.dump_value(value)}"
    if not isinstance(value, list) or len(text) <= _ONE_LINE:
        yield text, comment
        return
    yield f"{word} = [", comment
    yield from ((f"    {toml.dump_value(item)},", "") for item in value)
    yield "]", ""


def as_comment(text: str) -> str:
    """Return a text as a comment may hold it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _near(path: str | Path, spec: Path | None) -> str:
    """Return a path relative to the working directory, or to the spec's folder, where it is."""
    absolute = Path(path).absolute()
    for folder in (Path.cwd(), *([spec.parent] if spec else [])):
        if absolute.is_relative_to(folder):
            return str(absolute.relative_to(folder))
    return str(path)


class _Sources:
    """Know what set each value of an experiment."""

    def __init__(self, context: Context, traits: Traits) -> None:
        self._context, self._traits = context, traits
        self._positions = context.spec.positions
        self._raw: dict[str, Any] = {}  # files as they were read, for the places they name
        self._paths = {
            (*key, name)
            for key, cls, _ in iter_tables(Experiment, context.spec.data, context.registry)
            for name, info in cls.model_fields.items()
            if path_kind(info)
        }

    def of(self, key: Key, value: Any) -> str:
        """Return the origin of a value in a few words."""
        if position := self._positions.get(key):
            return self._said(key, position)
        for length in reversed(range(1, len(key))):
            position = self._positions.get(key[:length])
            if position and self._inside(key, length, position):
                return position.file
        return self._default(key, value)

    def _said(self, key: Key, position: Position) -> str:
        if position.file.startswith(OVERRIDE):
            return position.file
        place = f"{_near(position.file, self._context.path)}:{position.line}"
        name = self._place(key, position) if key in self._paths else ""
        return f"{place}, {name}" if name else place

    def _place(self, key: Key, position: Position) -> str:
        """Say which place a path names in its file, and what sets that place."""
        if position.file not in self._raw:
            self._raw[position.file] = toml.read(Path(position.file)).data
        written = _look(self._raw[position.file], key)
        if not (isinstance(written, str) and written.startswith("@")):
            return ""
        name, project = written[1:].partition("/")[0], self._context.project
        where = place_variable(name)
        if project.place(name) is None:
            where = "not set"
        elif project.place(name) == project.places.get(name):
            where = LOCAL
        return f"place @{name} ({where})"

    def _inside(self, key: Key, length: int, position: Position) -> bool:
        """Say whether an override has set the value as part of a table or an array."""
        start = position.file.removeprefix(f"{OVERRIDE} ").removesuffix("...")
        for override in self._context.overrides:
            name, _, text = override.partition("=")
            if override.startswith(start) and name.count(".") == length - 1:
                value = toml.parse_value(text, position.file)
                return _look(value, key[length:]) is not None
        return False

    def _default(self, key: Key, value: Any) -> str:
        """Say why a value is there that nobody wrote."""
        section, *inner = key
        if key == ("split", "use") and (self._traits.has_split or self._traits.has_groups):
            has = "its own split" if self._traits.has_split else "groups"
            return f"default for a dataset with {has}"
        if self._traits.ordered and key == ("training", "monitor"):
            return "default for ordered classes"
        if len(inner) == 2 and inner[1] == "use":
            observers = self._context.project.observers
            if section == "observer" and value in observers:
                return self._said(key, observers[value])
            first = "default" if inner[0] == 0 else self.of((section, 0, "use"), None)
            if (section,) in self._positions and not first.startswith("default"):
                return "always there" if value in ("accuracy", "last") else "for the monitor"
            if self._traits.ordered and (section, value) == ("metric", "qwk"):
                return "default for ordered classes"
        return "default"


def _look(data: Any, key: Key) -> Any:
    """Return what a key leads to, or None."""
    for part in key:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
