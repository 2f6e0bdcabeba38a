"""Read TOML: the data, and the position of every key.

`tomllib` gives the values and judges the syntax; tree-sitter's grammar gives the places, so
that every later complaint can point at a line and a column. This is the only TOML parser here.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sightx.errors import Problem, SpecError

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Key = tuple[str | int, ...]
SIZE_LIMIT = 1_000_000  # bytes; a spec is a page, not a data file
DEPTH_LIMIT = 50  # keys within keys; JSON and pydantic end at a few hundred
_DIGITS = 4300  # of an integer: Python reads no more
_SETTERS = {"pair", "bare_key", "quoted_key", "dotted_key"}
_NESTS = {"array", "inline_table", "dotted_key"}
_TWICE = ("Cannot overwrite", "Cannot declare", "Duplicate inline")
_WAYS_OUT = {  # by how tomllib's message begins
    "Invalid value": "strings stand in quotes, true and false are small, .5 is written 0.5",
    "Illegal character '\\n'": "end the string with a quote on its own line",
    "Unterminated string": "end it with a quote",
    "Expected \"'": "end the string with a quote",
    "Expected '='": "write key = value",
    "Expected newline": "one key = value a line; no number begins with 0",
    "Expected ']": "write [section] or [[section]]",
    "Unclosed array": "commas between items, ] at the end",
    "Unclosed inline table": "commas between pairs, } at the end",
    "Unescaped": "write \\\\ for \\, or use single quotes",
    "Invalid initial character": "a key is letters, digits, - and _, or stands in quotes",
    "Invalid statement": "write key = value, [section] or # comment",
    "Cannot mutate": "write a table in one place",
    "Cannot redefine": "write a table in one place",
}


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
        columns = _Columns(text)
        positions = {key: columns.of(place) for key, place in _positions(text, name)}
    except tomllib.TOMLDecodeError as error:
        _fail(name, "syntax", *_where(error, text))
    except ValueError:
        place = _first(text, lambda node, _: node.type == "integer" and _long(node))
        _fail(name, "syntax", "a number is too long", f"at most {_DIGITS} digits", place)
    except RecursionError:
        place = _first(text, lambda _, depth: depth >= DEPTH_LIMIT - 1)
        _fail(name, "syntax", "is nested too deeply", f"at most {DEPTH_LIMIT} levels", place)
    return Document(name, text, data, positions)


def parse_value(text: str, name: str) -> Any:
    """Parse one TOML value, as `--set key=value` gives it; a bare word is taken as a string."""
    line = text.replace("\r", "\n").replace("\n", "'")  # a second line would be a second key
    try:
        return parse(f"value = {line}".encode(), name).data["value"]
    except (SpecError, UnicodeEncodeError):
        if set(line) & set("\"'[]{}=,"):
            _fail(
                name,
                "syntax",
                f"{text!r} is no TOML value",
                "strings go in quotes, arrays in [brackets]",
            )
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


def _where(error: tomllib.TOMLDecodeError, text: str) -> tuple[str, str, tuple[int, int]]:
    """Turn tomllib's message into what is wrong, the way out, and the place."""
    message, _, place = str(error).rpartition(" (at ")
    lines = text.rstrip("\n").split("\n")
    line, column = len(lines), len(lines[-1]) + 1
    if "end of document" in place:  # what is open there began where the grammar lost its way
        lost = _first(text, lambda node, _: node.type == "ERROR")
        line, column = lost if lost != (0, 0) else (line, column)
    else:
        line, column = (int(part.split()[-1]) for part in place.rstrip(")").split(","))
    if message.startswith(_TWICE):
        end = (line - 1, len(text.split("\n")[line - 1][: column - 1].encode()))
        for node, _ in _nodes(text):
            if node.type in _SETTERS and node.end_point == end:
                key = node.named_children[0] if node.type == "pair" else node
                word = (key.text or b"").decode()
                return f"{word} is set a second time", "keep one", _position(key, text)
    ways = (way for start, way in _WAYS_OUT.items() if message.startswith(start))
    return message, next(ways, "mend the TOML"), (line, column)


def _nodes(text: str) -> Iterator[tuple[Node, int]]:
    """Yield the nodes of any text, also of one that is no TOML, with how deep they are nested."""
    stack = [(_parser().parse(text.encode()).root_node, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        depth += node.type in _NESTS
        stack.extend((child, depth) for child in reversed(node.named_children))


def _first(text: str, wanted: Callable[[Node, int], bool]) -> tuple[int, int]:
    """Return the place of the first node that is wanted, or the beginning."""
    found = (_position(node, text) for node, depth in _nodes(text) if wanted(node, depth))
    return next(found, (1, 1))


def _position(node: Node, text: str) -> tuple[int, int]:
    place = _Columns(text).of(_place(node, ""))
    return place.line, place.column


def _long(node: Node) -> bool:
    return sum(byte in b"0123456789" for byte in node.text or b"") > _DIGITS


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


class _Columns:
    """Count columns, which the parser counts in bytes, in characters."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._ends: dict[int, list[int]] = {}  # line: the byte at which each character ends

    def of(self, place: Position) -> Position:
        """Return a place with its column in characters."""
        line = self._lines[place.line - 1]
        if line.isascii():
            return place
        if place.line not in self._ends:
            self._ends[place.line] = list(accumulate(len(character.encode()) for character in line))
        return replace(place, column=bisect_right(self._ends[place.line], place.column - 1) + 1)


def dump(data: Mapping[str, Any]) -> str:
    """Return data as TOML text."""
    import tomli_w

    return tomli_w.dumps(data)
