"""Read TOML: the data, and the position of every key.

`tomllib` gives the values and judges the syntax; tree-sitter's grammar gives the places, so
that every later complaint can point at a line and a column. This is the only TOML parser here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sightx.errors import Problem, SpecError

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Key = tuple[str | int, ...]
SIZE_LIMIT = 1_000_000  # bytes; a spec is a page, not a data file


@dataclass(frozen=True)
class Position:
    """Point into a file; lines and columns count from 1."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Document:
    """Hold what a TOML text says, and where it says it.

    `positions` maps a key such as `("augment", 1, "degrees")` to its place.
    """

    name: str
    text: str
    data: dict[str, Any]
    positions: Mapping[Key, Position]

    def position(self, key: Key) -> Position:
        """Return the place of a key, or of the nearest table around it."""
        while key and key not in self.positions:
            key = key[:-1]
        return self.positions.get(key, Position(self.name, 1, 1))


def read(path: Path) -> Document:
    """Read a TOML file.

    Raises SpecError, with a place, for what cannot be read, decoded or parsed.
    """
    try:
        if path.stat().st_size > SIZE_LIMIT:
            _fail(str(path), "too-large", f"is larger than {SIZE_LIMIT:,} bytes", "is it a spec?")
        raw = path.read_bytes()
    except OSError as error:
        _fail(str(path), "unreadable", f"cannot be read: {error.strerror}", "check the path")
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Document:
    """Parse TOML bytes; `name` is what messages call the file."""
    text = _decode(raw, name)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line, column = _where(error, text)
        _fail(name, "syntax", message, "mend the TOML", line, column)
    except RecursionError:
        _fail(name, "syntax", "is nested too deeply", "a spec has a few levels", 1, 1)
    return Document(name, text, data, dict(_positions(text, name)))


def parse_value(text: str, name: str) -> Any:
    """Parse one TOML value, as `--set key=value` gives it; a bare word is taken as a string."""
    try:
        return tomllib.loads(f"value = {text}\n")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        if not set(text) & set("\"'[]{}=,\n"):
            return text  # a bare word or a path: quotes would only fight the shell
        _fail(name, "syntax", f"{text!r} is no TOML value", "put strings in quotes")


def _decode(raw: bytes, name: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        _fail(name, "encoding", "is UTF-16", "save it as UTF-8", 1, 1)
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"not UTF-8 (byte 0x{raw[error.start]:02x} at offset {error.start})"
        _fail(name, "encoding", message, "save it as UTF-8", line, column)


def _where(error: tomllib.TOMLDecodeError, text: str) -> tuple[str, int, int]:
    """Split tomllib's message into what is wrong and its place."""
    message, _, place = str(error).rpartition(" (at ")
    if "end of document" in place:
        last = text.rstrip("\n").split("\n")
        return message, len(last), len(last[-1]) + 1
    line, column = (int(part.split()[-1]) for part in place.rstrip(")").split(","))
    return message, line, column


def _fail(
    name: str, code: str, message: str, hint: str, line: int = 0, column: int = 0
) -> NoReturn:
    raise SpecError(Problem(code, message, hint, file=name, line=line, column=column))


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_toml

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))


def _positions(text: str, name: str) -> Iterator[tuple[Key, Position]]:
    """Yield the place of every key of a text that tomllib has accepted."""
    source = text.encode()
    seen: set[Key] = set()
    tables: dict[Key, int] = {}  # how many items each array of tables has so far
    for node in _parser().parse(source).root_node.named_children:
        if node.type == "pair":
            yield from _pair((), node, name)
        elif node.type in {"table", "table_array_element"}:
            header, *body = (child for child in node.named_children if child.type != "comment")
            key = _counted(_parts(header), tables, node.type == "table_array_element")
            for length in range(1, len(key) + 1):  # a header makes the tables above it, too
                if key[:length] not in seen:
                    seen.add(key[:length])
                    yield key[:length], _place(header, name)
            for child in body:
                yield from _pair(key, child, name)


def _counted(parts: list[str], tables: dict[Key, int], item: bool) -> Key:
    """Turn a header's words into a key, with the position of each array item it passes through."""
    key: Key = ()
    for number, part in enumerate(parts):
        key = (*key, part)
        if item and number == len(parts) - 1:
            tables[key] = tables.get(key, 0) + 1
        if key in tables:
            key = (*key, tables[key] - 1)
    return key


def _pair(prefix: Key, node: Node, name: str) -> Iterator[tuple[Key, Position]]:
    if node.type != "pair":
        return
    children = [child for child in node.named_children if child.type != "comment"]
    key = prefix
    for part in _parts(children[0]):
        key = (*key, part)
        yield key, _place(children[0], name)
    yield from _value(key, children[1], name)


def _value(key: Key, node: Node, name: str) -> Iterator[tuple[Key, Position]]:
    children = [child for child in node.named_children if child.type != "comment"]
    if node.type == "inline_table":
        for child in children:
            yield from _pair(key, child, name)
    elif node.type == "array":
        for number, child in enumerate(children):
            yield (*key, number), _place(child, name)
            yield from _value((*key, number), child, name)


def _parts(node: Node) -> list[str]:
    """Return the words of a bare, quoted or dotted key."""
    if node.type == "dotted_key":
        return [part for child in node.named_children for part in _parts(child)]
    text = (node.text or b"").decode()
    if node.type == "quoted_key":
        return list(tomllib.loads(f"{text} = 0"))
    return [text]


def _place(node: Node, name: str) -> Position:
    return Position(name, node.start_point.row + 1, node.start_point.column + 1)


def dump(data: Mapping[str, Any]) -> str:
    """Return data as TOML text."""
    import tomli_w

    return tomli_w.dumps(data)
