"""Read TOML: the data, and the position of every key.

`tomllib` gives the values and decides what is valid; tree-sitter's grammar gives the positions, so
that every later message can point at a line and a column. This is the only TOML reader and writer.
"""

from __future__ import annotations

import re
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
DEPTH_LIMIT = 50  # nested keys; JSON and pydantic stop at a few hundred
_DIGITS = 4300  # of an integer: Python reads no more
_KEY_NODES = {"pair", "bare_key", "quoted_key", "dotted_key"}
_NESTING_NODES = {"array", "inline_table", "dotted_key"}
_DUPLICATE = ("Cannot overwrite", "Cannot declare", "Duplicate inline")
_HINTS = {  # by how tomllib's message begins
    "Invalid value": "put strings in quotes, write true and false in lower case, and .5 as 0.5",
    "Illegal character '\\n'": "end the string with a quote on its own line",
    "Unterminated string": "end it with a quote",
    "Expected \"'": "end the string with a quote",
    "Expected '='": "write key = value",
    "Expected newline": "write one key = value per line; a number does not begin with 0",
    "Expected ']": "write [section] or [[section]]",
    "Unclosed array": "put commas between items and ] at the end",
    "Unclosed inline table": "put commas between pairs and } at the end",
    "Unescaped": "write \\\\ for \\, or use single quotes",
    "Invalid initial character": "a key has letters, digits, - and _, or is in quotes",
    "Invalid statement": "write key = value, [section] or # comment",
    "Cannot mutate": "write a table in one place",
    "Cannot redefine": "write a table in one place",
}


@dataclass(frozen=True)
class Position:
    """A place in a file; lines and columns count from 1, 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Document:
    """A TOML text, its data, and the position of every key.

    `positions` maps a key such as `("augment", 1, "degrees")` to its place.
    """

    name: str
    text: str
    data: dict[str, Any]
    positions: dict[Key, Position]

    def position(self, key: Key) -> Position:
        """Return the position of a key, or of the nearest table around it."""
        while key and key not in self.positions:
            key = key[:-1]
        return self.positions.get(key, Position(self.name, 1, 1))


def read(path: Path) -> Document:
    """Read a TOML file.

    Raises SpecError, with a position, if it cannot be read, decoded or parsed.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        named, hint = Path(f"{path}.toml"), "check the path"
        if isinstance(error, FileNotFoundError) and named.is_file():
            hint = f"did you mean {named}?"
        _fail(str(path), "unreadable", f"cannot be read: {reason}", hint)
    if len(raw) > SIZE_LIMIT:
        _fail(str(path), "too-large", f"is larger than {SIZE_LIMIT:,} bytes", "is it a spec?")
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Document:
    """Parse TOML bytes; messages call the file `name`."""
    text = _decode(raw, name)
    try:
        data = tomllib.loads(text)
        columns = _Columns(text)
        positions = {key: columns.in_characters(place) for key, place in _positions(text, name)}
    except tomllib.TOMLDecodeError as error:
        _fail(name, "syntax", *_explain(error, text))
    except ValueError:
        place = _find(text, lambda node, _: node.type == "integer" and _is_too_long(node))
        _fail(name, "syntax", "a number is too long", f"at most {_DIGITS} digits", place)
    except RecursionError:
        place = _find(text, lambda _, depth: depth >= DEPTH_LIMIT - 1)
        _fail(name, "syntax", "is nested too deeply", f"at most {DEPTH_LIMIT} levels", place)
    return Document(name, text, data, positions)


def parse_value(text: str, name: str) -> Any:
    """Parse one TOML value, as in `--set key=value`; a bare word or a path is a string."""
    line = text.replace("\r", "\n").replace("\n", "'")  # a second line would be a second key
    try:
        return parse(f"value = {line}".encode(), name).data["value"]
    except (SpecError, UnicodeEncodeError):
        if set(line) & set("\"'[]{}=,"):
            hint = "strings go in quotes, arrays in [brackets]"
            _fail(name, "syntax", f"{text!r} is not a TOML value", hint)
        return text  # the shell would strip quotes around a bare word anyway


def dump(data: Mapping[str, Any]) -> str:
    """Return data as TOML text."""
    import tomli_w

    return tomli_w.dumps(data)


def dump_value(value: Any) -> str:
    """Return a value as TOML on one line; dictionaries are inline tables."""
    if isinstance(value, Mapping):
        pairs = (f"{dump_key(key)} = {dump_value(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(dump_value, value))}]"
    return dump({"v": value}).removeprefix("v = ").removesuffix("\n").replace("\t", "\\t")


def dump_key(key: str) -> str:
    """Return a key as TOML writes it: bare, or in quotes."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else dump_value(key)


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


def _explain(error: tomllib.TOMLDecodeError, text: str) -> tuple[str, str, tuple[int, int]]:
    """Return message, hint, and line and column for an error of tomllib."""
    message, _, place = str(error).rpartition(" (at ")
    lines = text.rstrip("\n").split("\n")
    line, column = len(lines), len(lines[-1]) + 1
    if "end of document" in place:  # what is not closed begins where the grammar fails
        failed = _find(text, lambda node, _: node.type == "ERROR", default=(0, 0))
        line, column = failed if failed != (0, 0) else (line, column)
    else:
        line, column = (int(part.split()[-1]) for part in place.rstrip(")").split(","))
    if message.startswith(_DUPLICATE):
        end = (line - 1, len(text.split("\n")[line - 1][: column - 1].encode()))
        for node, _ in _walk(text):
            if node.type in _KEY_NODES and node.end_point == end:
                key = node.named_children[0] if node.type == "pair" else node
                name = (key.text or b"").decode()
                return f"{name} is set a second time", "keep one", _line_and_column(key, text)
    hints = (hint for start, hint in _HINTS.items() if message.startswith(start))
    return message, next(hints, "fix the TOML"), (line, column)


def _walk(text: str) -> Iterator[tuple[Node, int]]:
    """Yield every node of a text, valid TOML or not, with its depth of nesting."""
    stack = [(_parser().parse(text.encode()).root_node, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        depth += node.type in _NESTING_NODES
        stack.extend((child, depth) for child in reversed(node.named_children))


def _find(
    text: str, matches: Callable[[Node, int], bool], default: tuple[int, int] = (1, 1)
) -> tuple[int, int]:
    """Return line and column of the first node that matches."""
    places = (_line_and_column(node, text) for node, depth in _walk(text) if matches(node, depth))
    return next(places, default)


def _line_and_column(node: Node, text: str) -> tuple[int, int]:
    place = _Columns(text).in_characters(_position(node, ""))
    return place.line, place.column


def _is_too_long(node: Node) -> bool:
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
    """Yield the position of every key of a text that tomllib has accepted."""
    known: set[Key] = set()
    lengths: dict[Key, int] = {}  # number of items of each array of tables so far
    for node in _parser().parse(text.encode()).root_node.named_children:
        if node.type == "pair":
            yield from _pair((), node, name)
        elif node.type in {"table", "table_array_element"}:
            header, *body = (child for child in node.named_children if child.type != "comment")
            key = _numbered(_names(header), lengths, node.type == "table_array_element")
            for length in range(1, len(key) + 1):  # a header creates the tables above it, too
                if key[:length] not in known:
                    known.add(key[:length])
                    yield key[:length], _position(header, name)
            for child in body:
                yield from _pair(key, child, name)


def _numbered(names: list[str], lengths: dict[Key, int], is_item: bool) -> Key:
    """Return a header's names as a key, with the number of each array item on the way."""
    if len(names) > DEPTH_LIMIT:
        raise RecursionError
    key: Key = ()
    for number, name in enumerate(names):
        key = (*key, name)
        if is_item and number == len(names) - 1:
            lengths[key] = lengths.get(key, 0) + 1
        if key in lengths:
            key = (*key, lengths[key] - 1)
    return key


def _pair(prefix: Key, node: Node, name: str) -> Iterator[tuple[Key, Position]]:
    if node.type != "pair":
        return
    left, right = (child for child in node.named_children if child.type != "comment")
    names = _names(left)
    if len(prefix) + len(names) > DEPTH_LIMIT:
        raise RecursionError
    key = prefix
    for part in names:
        key = (*key, part)
        yield key, _position(left, name)
    yield from _value(key, right, name)


def _value(key: Key, node: Node, name: str) -> Iterator[tuple[Key, Position]]:
    children = [child for child in node.named_children if child.type != "comment"]
    if node.type == "inline_table":
        for child in children:
            yield from _pair(key, child, name)
    elif node.type == "array":
        if len(key) == DEPTH_LIMIT:
            raise RecursionError
        for number, child in enumerate(children):
            yield (*key, number), _position(child, name)
            yield from _value((*key, number), child, name)


def _names(node: Node) -> list[str]:
    """Return the names of a bare, quoted or dotted key."""
    names, nodes = [], [node]
    while nodes:  # a loop: the grammar nests a dotted key to the left, as deep as it is long
        part = nodes.pop()
        if part.type == "dotted_key":
            nodes.extend(reversed(part.named_children))
            continue
        text = (part.text or b"").decode()
        is_quoted = part.type == "quoted_key"
        names.append(next(iter(tomllib.loads(f"{text} = 0"))) if is_quoted else text)
    return names


def _position(node: Node, name: str) -> Position:
    return Position(name, node.start_point.row + 1, node.start_point.column + 1)


class _Columns:
    """Convert columns from bytes, which the parser counts, to characters."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._ends: dict[int, list[int]] = {}  # line: the byte at which each character ends

    def in_characters(self, place: Position) -> Position:
        """Return a position with its column in characters."""
        line = self._lines[place.line - 1]
        if line.isascii():
            return place
        if place.line not in self._ends:
            self._ends[place.line] = list(accumulate(len(character.encode()) for character in line))
        return replace(place, column=bisect_right(self._ends[place.line], place.column - 1) + 1)
