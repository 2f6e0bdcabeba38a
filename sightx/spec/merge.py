"""Merge specs: a spec over the spec that it extends, and `--set` overrides over both.

Tables merge by key; arrays, and tables whose `use` changes, are replaced as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sightx.errors import Problem, SpecError, one_line, wrong_type
from sightx.io import toml
from sightx.io.files import user_path
from sightx.io.toml import Document, Key, Position

OVERRIDE = "--set"

Table = dict[str, Any]
DefaultSection = Callable[[str], Any]
Overrides = str | Iterable[str] | Mapping[str, Any]
"""Overrides as users give them: `key=value` strings, or a mapping of keys to values."""
_Positions = list[tuple[Key, Position]]


def read_with_bases(path: Path, derived: tuple[Path, ...] = ()) -> Document:
    """Read a spec merged over the specs that it extends; the text is that of the spec itself.

    `derived` are the specs that extend this one. Raises SpecError.
    """
    document = toml.read(path)
    position = document.position(("extends",))
    base = document.data.pop("extends", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise _error(position, "wrong-type", "expected a path as a string", path="extends")
    base_path = path.parent / user_path(base)
    if any(_is_same_file(base_path, other) for other in (*derived, path)):
        raise _error(position, "circular-extends", f"{base} extends this spec", path="extends")
    try:
        return merge_documents(read_with_bases(base_path, (*derived, path)), document)
    except SpecError as error:
        problems = (_problem_of_base(problem, base, position) for problem in error.problems)
        raise SpecError(*problems) from None


def merge_documents(base: Document, over: Document) -> Document:
    """Merge a document over its base, which is modified; the result has the name of the former."""
    _merge_tables(base, list(over.positions.items()), base.data, over.data, ())
    return Document(over.name, over.text, base.data, base.positions)


def apply_overrides(
    document: Document,
    overrides: Iterable[str],
    default_section: DefaultSection = lambda section: None,
    notes: list[str] | None = None,
) -> list[Problem]:
    """Apply `key=value` overrides in place, and return the problems of those that are wrong.

    `default_section` returns the default of a section that the spec leaves out, so that an override
    can change a part of it; None if it has no default. A line for each override that drops settings
    of the spec, because it names another component, is added to `notes`.
    """
    problems: list[Problem] = []
    replaced: list[_Replaced] = []
    for override in overrides:
        short = override if len(override) <= 80 else override[:77] + "..."
        position = Position(f"{OVERRIDE} {short}")
        try:
            replaced += _apply_override(document, override, position, default_section)
        except SpecError as error:
            problems.extend(error.problems)
    if notes is not None:
        notes += filter(None, (old.note(document.data) for old in replaced))
    return problems


class _Replaced(NamedTuple):
    """A table of the spec that an override has replaced by one of another component."""

    override: str
    key: Key
    settings: Table

    def note(self, data: Any) -> str:
        """Return which settings are gone; "" if the spec and its overrides have them all."""
        for part in self.key:
            data = data[part]
        gone = {name: value for name, value in self.settings.items() if name not in data}
        if not gone:
            return ""
        values = ", ".join(f"{name} = {toml.dump_value(value)}" for name, value in gone.items())
        return one_line(f"{self.override} drops {values}")


def as_overrides(overrides: Overrides) -> tuple[str, ...]:
    """Return overrides as `key=value` strings.

    They may be a mapping of dotted keys, or of nested tables, to values. Raises SpecError for
    anything else.
    """
    if isinstance(overrides, str):
        return (overrides,)
    if isinstance(overrides, Mapping):
        return tuple(_flat_overrides(overrides))
    if isinstance(overrides, Iterable):
        listed = tuple(overrides)
        if all(isinstance(override, str) for override in listed):
            return listed
    expected = '{"training.epochs": 3} or ["training.epochs=3"]'
    raise wrong_type("overrides", overrides, f"settings, as in {expected}")


def _flat_overrides(tables: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tables.items():
        if isinstance(value, Mapping) and "use" not in value:
            yield from _flat_overrides(value, f"{prefix}{key}.")
        else:
            plain = str(value) if isinstance(value, os.PathLike) else value
            yield f"{prefix}{key}={toml.dump_value(plain)}"


def override_section(override: str) -> str:
    """Return the section that an override changes."""
    return override.partition("=")[0].partition(".")[0]


def _apply_override(
    document: Document, override: str, position: Position, default_section: DefaultSection
) -> list[_Replaced]:
    """Apply an override; return the table that it replaces, if it does."""
    dotted, equals, text = override.partition("=")
    *parents, last = dotted.split(".")
    if not equals or not last:
        raise _error(position, "usage", "expected key=value")
    value = toml.parse_value(text, position.file)
    data: Any = document.data
    if parents and parents[0] not in data:
        default = default_section(parents[0])
        if default is not None:
            data[parents[0]] = default
    key: Key = ()
    for part in parents:
        data, key = _enter(data, key, part, position)
    final: str | int = _index(data, last, position) if isinstance(data, list) else last
    replaced: list[_Replaced] = []
    if final == "use" and key and data.get("use") != value:
        settings = _written_settings(document, key, data)
        replaced.append(_Replaced(position.file, key, settings))
        _forget_positions(document, key)
        data.clear()
    key = (*key, final)
    old = data[final] if not isinstance(data, dict) or final in data else None
    if isinstance(old, dict) and isinstance(value, dict) and not _has_same_use(old, value):
        settings = _written_settings(document, key, old)
        replaced.append(_Replaced(position.file, key, settings))
    _forget_positions(document, key)
    data[final] = value
    for length in range(1, len(key) + 1):
        document.positions.setdefault(key[:length], position)
    return replaced


def _written_settings(document: Document, key: Key, table: Table) -> Table:
    """Return the settings of a component's table that somebody has written."""
    return {k: v for k, v in table.items() if k != "use" and (*key, k) in document.positions}


def _enter(data: Any, key: Key, part: str, position: Position) -> tuple[Any, Key]:
    """Return a table inside `data`, created if it is missing, or an item of an array of tables."""
    step: str | int = part
    if isinstance(data, list):
        step = _index(data, part, position)
        inner = data[step]
    else:
        inner = data.setdefault(part, {})
    if not isinstance(inner, (dict, list)):
        raise _error(position, "usage", f"{part} is a value, not a table")
    return inner, (*key, step)


def _index(items: list[Any], part: str, position: Position) -> int:
    """Return the index of the item that a part of a key names: by its `use`, or by its index."""
    uses = [item.get("use") if isinstance(item, dict) else None for item in items]
    indices = [str(index) for index in range(len(items))]
    if uses.count(part) > 1:
        same = ", ".join(index for index, use in zip(indices, uses, strict=True) if use == part)
        raise _error(position, "usage", f"{part!r} is there twice", f"give a position: {same}")
    for names in (uses, indices):
        if part in names:
            return names.index(part)
    known = ", ".join(str(use) for use in uses if use) or ", ".join(indices) or "none"
    raise _error(position, "usage", f"no item {part!r} in the array", f"known: {known}")


def _merge_tables(
    base: Document, positions: _Positions, data: Table, over: Table, key: Key
) -> None:
    """Merge a table over another; `positions` are those of the former and of everything in it."""
    by_name: dict[str | int, _Positions] = {}
    for position_key, position in positions:
        if len(position_key) > len(key):
            by_name.setdefault(position_key[len(key)], []).append((position_key, position))
    for name, value in over.items():
        inner, inner_key, inner_positions = data.get(name), (*key, name), by_name.get(name, [])
        if isinstance(inner, dict) and isinstance(value, dict) and _has_same_use(inner, value):
            base.positions.update(item for item in inner_positions if item[0] == inner_key)
            _merge_tables(base, inner_positions, inner, value, inner_key)
        else:
            if name in data:
                _forget_positions(base, inner_key)
            data[name] = value
            base.positions.update(inner_positions)


def _has_same_use(inner: Table, over: Table) -> bool:
    return bool(over.get("use", inner.get("use")) == inner.get("use"))


def _forget_positions(document: Document, key: Key) -> None:
    for known in [known for known in document.positions if known[: len(key)] == key]:
        del document.positions[known]


def _problem_of_base(problem: Problem, base: str, position: Position) -> Problem:
    """Return a problem of a base as a whole as a problem of the key `extends`."""
    if problem.line:
        return problem
    message = f"{base!r} {problem.message}"
    return replace(problem, message=message, path="extends").at(
        position.file, position.line, position.column
    )


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other)
    except ValueError:  # the name contains a NUL; reading the file reports it
        return False


def _error(
    position: Position, code: str, message: str, hint: str = "", path: str = ""
) -> SpecError:
    return SpecError(
        Problem(code, message, hint, path, position.file, position.line, position.column)
    )
