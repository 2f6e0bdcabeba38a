"""Read TOML: the data, and the position of every key.

`tomllib` gives the values and judges the syntax; tree-sitter's grammar gives the places, so
that every later complaint can point at a line and a column. This is the only TOML parser here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sightx.errors import Problem, SpecError

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Key = tuple[str | int, ...]
SIZE_LIMIT = 1_000_000  # bytes; a spec is a page, not a data file
DEPTH_LIMIT = 50  # keys within keys; JSON and pydantic end at a few hundred


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
    positions: dict[Key, Position]

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
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        _fail(str(path), "unreadable", f"cannot be read: {reason}", "check the path")
    if len(raw) > SIZE_LIMIT:
        _fail(str(path), "too-large", f"is larger than {SIZE_LIMIT:,} bytes", "is it a spec?")
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Document:
    """Parse TOML bytes; `name` is what messages call the file."""
    text = _decode(raw, name)
    try:
        data = tomllib.loads(text)
        lines = text.split("\n")
        positions = {key: _in_characters(place, lines) for key, place in _positions(text, name)}
    except tomllib.TOMLDecodeError as error:
        message, line, column = _where(error, text)
        _fail(name, "syntax", message, "mend the TOML", (line, column))
    except ValueError:  # Python reads no integer of thousands of digits
        _fail(name, "syntax", "holds a number that is too long", "mend the TOML", (1, 1))
    except RecursionError:
        _fail(name, "syntax", "is nested too deeply", "a spec has a few levels", (1, 1))
    return Document(name, text, data, positions)


def parse_value(text: str, name: str) -> Any:
    """Parse one TOML value, as `--set key=value` gives it; a bare word is taken as a string."""
    line = text.replace("\r", "\n").replace("\n", "'")  # a second line would be a second key
    try:
        return parse(f"value = {line}".encode(), name).data["value"]
    except (SpecError, UnicodeEncodeError):
        if set(line) & set("\"'[]{}=,"):
            _fail(name, "syntax", f"{text!r} is no TOML value", "put strings in quotes")
        return text  # a bare word or a path: quotes would only fight the shell


def _decode(raw: bytes, name: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        _fail(name, "encoding", "is UTF-16", "save it as UTF-8", (1, 1))
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"not UTF-8 (byte 0x{raw[error.start]:02x} at offset {error.start})"
        _fail(name, "encoding", message, "save it as UTF-8", (line, column))


def _where(error: tomllib.TOMLDecodeError, text: str) -> tuple[str, int, int]:
    """Split tomllib's message into what is wrong and its place."""
    message, _, place = str(error).rpartition(" (at ")
    if "end of document" in place:
        last = text.rstrip("\n").split("\n")
        return message, len(last), len(last[-1]) + 1
    line, column = (int(part.split()[-1]) for part in place.rstrip(")").split(","))
    return message, line, column


def _fail(
    name: str, code: str, message: str, hint: str, place: tuple[int, int] = (0, 0)
) -> NoReturn:
    line, column = place
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
    if len(parts) > DEPTH_LIMIT:
        raise RecursionError
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
    parts = _parts(children[0])
    if len(prefix) + len(parts) > DEPTH_LIMIT:
        raise RecursionError
    key = prefix
    for part in parts:
        key = (*key, part)
        yield key, _place(children[0], name)
    yield from _value(key, children[1], name)


def _value(key: Key, node: Node, name: str) -> Iterator[tuple[Key, Position]]:
    children = [child for child in node.named_children if child.type != "comment"]
    if node.type == "inline_table":
        for child in children:
            yield from _pair(key, child, name)
    elif node.type == "array":
        if len(key) == DEPTH_LIMIT:
            raise RecursionError
        for number, child in enumerate(children):
            yield (*key, number), _place(child, name)
            yield from _value((*key, number), child, name)


def _parts(node: Node) -> list[str]:
    """Return the words of a bare, quoted or dotted key."""
    words, nodes = [], [node]
    while nodes:  # the grammar nests a dotted key to the left, as deep as it is long
        inner = nodes.pop()
        if inner.type == "dotted_key":
            nodes.extend(reversed(inner.named_children))
            continue
        text = (inner.text or b"").decode()
        words.append(
            next(iter(tomllib.loads(f"{text} = 0"))) if inner.type == "quoted_key" else text
        )
    return words


def _place(node: Node, name: str) -> Position:
    return Position(name, node.start_point.row + 1, node.start_point.column + 1)


def _in_characters(place: Position, lines: list[str]) -> Position:
    """Count a column, which the parser counts in bytes, in characters."""
    line = lines[place.line - 1]
    if line.isascii():
        return place
    before = line.encode()[: place.column - 1].decode()
    return replace(place, column=len(before) + 1)


def dump(data: Mapping[str, Any]) -> str:
    """Return data as TOML text."""
    import tomli_w

    return tomli_w.dumps(data)
