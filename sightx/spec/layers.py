"""Lay specs over each other: a base under its heir, `--set` over both.

Tables merge by key, arrays are replaced whole, and a table whose `use` changes is replaced whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightx import document
from sightx.document import Key, Position
from sightx.errors import Problem, SpecError
from sightx.spec.walk import Table

Positions = dict[Key, Position]


def read(path: Path, heirs: tuple[Path, ...] = ()) -> tuple[Table, Positions, str]:
    """Read a spec with everything it extends; return data, positions and its own text."""
    source = document.read(path)
    base = source.data.pop("extends", None)
    if base is None:
        return source.data, dict(source.positions), source.text
    place = source.position(("extends",))
    if not isinstance(base, str):
        raise _at(place, "wrong-type", "expected a path as a string", "extends")
    below = path.parent / base
    if below.resolve() in [heir.resolve() for heir in (*heirs, path)]:
        raise _at(place, "circular-extends", f"{base} extends this spec", "extends")
    data, positions, _ = read(below, (*heirs, path))
    _merge(data, positions, source.data, dict(source.positions), ())
    return data, positions, source.text


def apply(data: Table, positions: Positions, overrides: Sequence[str]) -> None:
    """Lay `key=value` overrides over the data, in place."""
    for override in overrides:
        place = Position(f"--set {override}")
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise _at(place, "usage", "expected key=value")
        value = document.parse_value(text, place.file)
        _set(data, positions, dotted.split("."), value, place)


def _set(data: Any, positions: Positions, parts: list[str], value: Any, place: Position) -> None:
    key: Key = ()
    for part in parts[:-1]:
        data, key = _enter(data, key, part, place)
    last = _index(data, parts[-1], place) if isinstance(data, list) else parts[-1]
    if last == "use" and isinstance(data, dict) and data.get("use") != value:
        _forget(positions, key)
        data.clear()
    _forget(positions, (*key, last))
    data[last] = value
    positions[(*key, last)] = place
    positions.setdefault(key, place)


def _enter(data: Any, key: Key, part: str, place: Position) -> tuple[Any, Key]:
    """Step into a table, made where it is missing, or into an item of an array of tables."""
    if isinstance(data, list):
        index = _index(data, part, place)
        return data[index], (*key, index)
    inner = data.setdefault(part, {})
    if not isinstance(inner, (dict, list)):
        raise _at(place, "usage", f"{part} is a value, not a table")
    return inner, (*key, part)


def _index(items: list[Any], part: str, place: Position) -> int:
    names = [item.get("use") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    known = ", ".join(str(name) for name in names if name)
    raise _at(place, "usage", f"no item {part!r} in the array", hint=f"known: {known}")


def _merge(data: Table, positions: Positions, over: Table, places: Positions, key: Key) -> None:
    for name, value in over.items():
        inner, here = data.get(name), (*key, name)
        if isinstance(inner, dict) and isinstance(value, dict) and _same_use(inner, value):
            positions.update({k: places[k] for k in [here] if k in places})
            _merge(inner, positions, value, places, here)
        else:
            _forget(positions, here)
            data[name] = value
            positions.update({k: p for k, p in places.items() if k[: len(here)] == here})


def _same_use(inner: Table, over: Table) -> bool:
    return over.get("use", inner.get("use")) == inner.get("use")


def _forget(positions: Positions, key: Key) -> None:
    for known in [known for known in positions if known[: len(key)] == key]:
        del positions[known]


def _at(place: Position, code: str, message: str, path: str = "", hint: str = "") -> SpecError:
    return SpecError(Problem(code, message, hint, path, place.file, place.line, place.column))
