"""Lay specs over each other: a base under its heir, `--set` over both.

Tables merge by key, arrays are replaced whole, and a table whose `use` changes is replaced whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightx.errors import Problem, SpecError
from sightx.io import toml
from sightx.io.toml import Document, Key, Position
from sightx.spec.paths import Table

OVERRIDE = "--set"

_Places = list[tuple[Key, Position]]


def read_with_bases(path: Path, heirs: tuple[Path, ...] = ()) -> Document:
    """Read a spec with everything it extends, as one document with the spec's own text."""
    source = toml.read(path)
    place = source.position(("extends",))
    base = source.data.pop("extends", None)
    if base is None:
        return source
    if not isinstance(base, str):
        raise _at(place, "wrong-type", "expected a path as a string", path="extends")
    below = path.parent / base
    if any(_same(below, heir) for heir in (*heirs, path)):
        raise _at(place, "circular-extends", f"{base} extends this spec", path="extends")
    try:
        return merge_documents(read_with_bases(below, (*heirs, path)), source)
    except SpecError as error:
        raise SpecError(*(_of_heir(problem, base, place) for problem in error.problems)) from None


def merge_documents(base: Document, over: Document) -> Document:
    """Return a document over its base, which is used up, under the name of the upper one."""
    _merge(base, list(over.positions.items()), base.data, over.data, ())
    return Document(over.name, over.text, base.data, base.positions)


def apply_overrides(spec: Document, overrides: Iterable[str]) -> list[Problem]:
    """Lay `key=value` overrides over a spec, in place; return what is wrong with those left out."""
    found: list[Problem] = []
    for override in overrides:
        short = override if len(override) <= 80 else override[:77] + "..."
        place = Position(f"{OVERRIDE} {short}")
        try:
            _override(spec, override, place)
        except SpecError as error:
            found.extend(error.problems)
    return found


def override_section(override: str) -> str:
    """Return the first word of the key that an override sets."""
    return override.partition("=")[0].partition(".")[0]


def _override(spec: Document, override: str, place: Position) -> None:
    dotted, equals, text = override.partition("=")
    *above, last = dotted.split(".")
    if not equals or not last:
        raise _at(place, "usage", "expected key=value")
    value = toml.parse_value(text, place.file)
    data: Any = spec.data
    key: Key = ()
    for part in above:
        data, key = _enter(data, key, part, place)
    here: str | int = _index(data, last, place) if isinstance(data, list) else last
    if here == "use" and key and data.get("use") != value:
        _forget(spec, key)
        data.clear()
    key = (*key, here)
    _forget(spec, key)
    data[here] = value
    for length in range(1, len(key) + 1):
        spec.positions.setdefault(key[:length], place)


def _enter(data: Any, key: Key, part: str, place: Position) -> tuple[Any, Key]:
    """Step into a table, made where it is missing, or into an item of an array of tables."""
    here: str | int = part
    if isinstance(data, list):
        here = _index(data, part, place)
        inner = data[here]
    else:
        inner = data.setdefault(part, {})
    if not isinstance(inner, (dict, list)):
        raise _at(place, "usage", f"{part} is a value, not a table")
    return inner, (*key, here)


def _index(items: list[Any], part: str, place: Position) -> int:
    """Return which item a word names: by its `use`, or by its position from 0."""
    names = [item.get("use") if isinstance(item, dict) else None for item in items]
    numbers = [str(number) for number in range(len(items))]
    if names.count(part) > 1:
        positions = ", ".join(n for n, name in zip(numbers, names, strict=True) if name == part)
        raise _at(place, "usage", f"{part!r} is there twice", f"give a position: {positions}")
    for words in (names, numbers):
        if part in words:
            return words.index(part)
    known = ", ".join(str(name) for name in names if name) or ", ".join(numbers) or "none"
    raise _at(place, "usage", f"no item {part!r} in the array", f"known: {known}")


def _merge(base: Document, places: _Places, data: Table, upper: Table, key: Key) -> None:
    """Lay a table over another; `places` are those of the upper one and what is in it."""
    inside: dict[str | int, _Places] = {}
    for found, place in places:
        if len(found) > len(key):
            inside.setdefault(found[len(key)], []).append((found, place))
    for name, value in upper.items():
        inner, here, written = data.get(name), (*key, name), inside.get(name, [])
        if isinstance(inner, dict) and isinstance(value, dict) and _same_use(inner, value):
            base.positions.update((found, place) for found, place in written if found == here)
            _merge(base, written, inner, value, here)
        else:
            if name in data:
                _forget(base, here)
            data[name] = value
            base.positions.update(written)


def _same_use(inner: Table, over: Table) -> bool:
    return bool(over.get("use", inner.get("use")) == inner.get("use"))


def _forget(spec: Document, key: Key) -> None:
    for known in [known for known in spec.positions if known[: len(key)] == key]:
        del spec.positions[known]


def _of_heir(problem: Problem, base: str, place: Position) -> Problem:
    """Return what is wrong with a base as a whole as what is wrong with naming it."""
    if problem.line:
        return problem
    message = f"{base!r} {problem.message}"
    return replace(problem, message=message, path="extends").at(
        place.file, place.line, place.column
    )


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other)
    except ValueError:  # a NUL in the name; reading it says so
        return False


def _at(place: Position, code: str, message: str, hint: str = "", path: str = "") -> SpecError:
    return SpecError(Problem(code, message, hint, path, place.file, place.line, place.column))
