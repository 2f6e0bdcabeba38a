"""The filter language of runs: the WHERE of SQL, with bare keys.

    expression := term ("or" term)*
    term       := factor ("and" factor)*
    factor     := "not" factor | "(" expression ")" | condition
    condition  := KEY OPERATOR VALUE | KEY ["not"] "in" "(" VALUE ("," VALUE)* ")"
                | KEY "~" PATTERN | KEY "is" ["not"] "missing" | "@" TAG
    OPERATOR   := "=" | "==" | "!=" | "<" | "<=" | ">" | ">="

A key that a run lacks matches nothing but `is missing`, as NULL in SQL; so does an order between
text and a number. `*` and `?` are the wildcards of a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn, Protocol

from sightx.errors import Problem, SpecError, did_you_mean
from sightx.run_registry.summary import STATUSES, Value

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<operator><=|>=|!=|==|[=<>~(),])"""
    r"""|(?P<word>[^\s()<>=!~,'"]+)|(?P<other>\S))"""
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DURATION = re.compile(r"(-?)(\d+(?:\.\d+)?)([smhd])")
_INTEGER_DIGITS = 18  # more may not fit into 64 bits
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COMPARED = ("=", "==", "!=", "<", "<=", ">", ">=")
_KEYWORDS = {"and", "or", "not", "in", "is", "missing"}
_TIMES, _DURATIONS = {"started"}, {"seconds"}
_FORMS = {
    "started": "a date such as 2026-01-31, a time such as 2026-01-31T12:00, today, or -7d",
    "seconds": "a number, or a duration such as 90s, 5m, 2h, 1d",
}


@dataclass(frozen=True)
class Compare:
    """A key compared with a value; the operator is =, !=, <, <=, > or >=."""

    key: str
    operator: str
    value: Value


@dataclass(frozen=True)
class In:
    """A key whose value is one of some values."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Like:
    """A key whose text matches a pattern with `*` and `?`."""

    key: str
    pattern: str


@dataclass(frozen=True)
class Missing:
    """A key that a run lacks."""

    key: str


@dataclass(frozen=True)
class Tagged:
    """A run that has a tag."""

    tag: str


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    part: Filter


@dataclass(frozen=True)
class Both:
    """Two conditions that both hold; with `is_or`, at least one of them."""

    left: Filter
    right: Filter
    is_or: bool = False


Filter = Compare | In | Like | Missing | Tagged | Not | Both


class KnownRuns(Protocol):
    """What runs have, so that a misspelt value is an error and not an empty list."""

    def example(self, key: str, *, is_text: bool) -> Value | None:
        """Return a value of a key that is text, or one that is not; None if no run has one."""

    def tags(self) -> Iterable[str]:
        """Return the tags of all runs."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int

    def __str__(self) -> str:
        """Return the token as an error shows it."""
        return repr(self.text) if self.text else "the end"


def parse_filter(
    text: str, keys: Iterable[str], *, file: str = "--where", known: KnownRuns | None = None
) -> Filter:
    """Return the filter that a text means.

    Args:
        text: The expression.
        keys: The keys that runs have; () accepts every key. The last part of a key stands for the
            whole if it is unique: `lr` for `optimizer.lr`; `qwk` prefers `validation/qwk`.
        file: Where the text comes from, for errors.
        known: The runs that are filtered; None accepts every tag, status and type of value.

    Raises:
        SpecError: The text is not an expression, no run has a key, or a value cannot be one of its
            key; with the column.
    """
    return _Parser(text, list(keys), file, known).parse()


def join_filters(filters: Sequence[Filter]) -> Filter | None:
    """Return the filter of runs that match all of some filters; None if there are none."""
    joined: Filter | None = None
    for part in filters:
        joined = part if joined is None else Both(joined, part)
    return joined


def find_key(text: str, keys: Sequence[str], file: str, column: int = 0) -> str:
    """Return the key that a text means: itself, or the only key that ends with it.

    Without keys every text is one. `file` and `column` are the place of the text, for errors.
    Raises SpecError if no run has such a key, or if several keys end with the text.
    """
    if text in keys or not keys:
        return text
    ends = [key for key in keys if key.endswith((f".{text}", f"/{text}"))]
    validation = f"validation/{text}"
    if validation in ends:
        return validation
    if len(ends) == 1:
        return ends[0]
    names = [*keys, *(re.split(r"[./]", key)[-1] for key in keys)]
    hint = f"one of {', '.join(ends[:5])}" if ends else did_you_mean(text, names)
    if not hint:
        known = sorted(keys, key=lambda key: "/" not in key)  # metrics first
        hint = f"known: {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
    message = f"{text!r} is the end of several keys" if ends else f"no run has {text!r}"
    raise SpecError(Problem("unknown-key", message, hint).at(file, int(column > 0), column))


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, keys: Sequence[str], file: str, known: KnownRuns | None) -> None:
        self._keys, self._file, self._known = keys, file, known
        self._tokens = [
            _Token(
                str(match.lastgroup),
                match[match.lastgroup or 0],
                match.start(match.lastgroup or 0) + 1,
            )
            for match in _TOKEN.finditer(text)
        ]
        self._end = _Token("end", "", len(text) + 1)
        self._position = 0

    def parse(self) -> Filter:
        """Return the whole expression."""
        parsed = self._or()
        if self._next.kind != "end":
            self._fail(
                self._next, f"{self._next} follows a complete condition", "join them with and"
            )
        return parsed

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position] if self._position < len(self._tokens) else self._end

    def _take(self) -> _Token:
        token = self._next
        self._position += 1
        return token

    def _is_word(self, *words: str) -> bool:
        """Return whether the next tokens are some keywords."""
        tokens = self._tokens[self._position : self._position + len(words)]
        return [t.text.lower() for t in tokens if t.kind == "word"] == list(words)

    def _skip(self, *words: str) -> bool:
        """Take keywords if they come next."""
        if is_next := self._is_word(*words):
            self._position += len(words)
        return is_next

    def _or(self) -> Filter:
        left = self._and()
        while self._skip("or"):
            left = Both(left, self._and(), is_or=True)
        return left

    def _and(self) -> Filter:
        left = self._factor()
        while self._skip("and"):
            left = Both(left, self._factor())
        return left

    def _factor(self) -> Filter:
        if self._skip("not"):
            return Not(self._factor())
        if self._next.text == "(":
            self._take()
            inner = self._or()
            self._expect(")")
            return inner
        return self._condition()

    def _condition(self) -> Filter:
        token = self._take()
        if token.kind not in {"word", "quoted"} or token.text.lower() in _KEYWORDS:
            self._fail(token, f"{token} is not a key", "such as optimizer.lr < 0.01 or @candidate")
        if token.text.startswith("@"):
            return self._tagged(token)
        key = self._key(token)
        if self._is_word("is") or self._is_word("in") or self._is_word("not"):
            return self._keyword_condition(key)
        return self._comparison(key)

    def _keyword_condition(self, key: str) -> Filter:
        """Return `KEY is missing` or `KEY in (...)`, or the opposite of one."""
        if self._skip("is"):
            is_opposite = self._skip("not")
            if not self._skip("missing"):
                self._fail(self._next, f"expected missing, not {self._next}")
            return Not(Missing(key)) if is_opposite else Missing(key)
        is_opposite = self._skip("not")
        if not self._skip("in"):
            self._fail(self._next, f"expected in, not {self._next}")
        values = In(key, self._values(key))
        return Not(values) if is_opposite else values

    def _comparison(self, key: str) -> Filter:
        """Return a condition with an operator."""
        operator = self._take()
        if operator.text == "~":
            return Like(key, _unquote(self._value_token()))
        if operator.kind != "operator" or operator.text not in _COMPARED:
            hint = "one of = != < <= > >= ~, in (...), is missing"
            self._fail(operator, f"{operator} is not an operator", hint)
        return Compare(key, operator.text.replace("==", "="), self._value(key))

    def _tagged(self, token: _Token) -> Filter:
        """Return the condition of a tag; one that looks misspelt is an error."""
        tag = token.text[1:]
        tags = set(self._known.tags()) if self._known else set()
        if tag not in tags and (hint := did_you_mean(tag, tags)):
            self._fail(token, f"no run has the tag {tag!r}", hint)
        return Tagged(tag)

    def _value(self, key: str) -> Value:
        """Return the value that comes next; one that the key cannot have is an error."""
        token = self._value_token()
        value = _value(token, key)
        if value is None:
            self._fail(
                token, f"{token} cannot be compared with {key}", f"{key} takes {_FORMS[key]}"
            )
        if self._known is None:
            return value
        if key == "status" and value not in STATUSES:
            hint = did_you_mean(str(value), STATUSES) or f"one of {', '.join(STATUSES)}"
            self._fail(token, f"{token} is not a status", hint)
        is_text = isinstance(value, str)
        if self._known.example(key, is_text=is_text) is not None:
            return value
        other = self._known.example(key, is_text=not is_text)
        if is_text and other is not None:
            shown = "true or false" if isinstance(other, bool) else f"numbers such as {other:g}"
            self._fail(token, f"{token} cannot be compared with {key}", f"its values are {shown}")
        return value if other is None else _unquote(token)  # a name may look like a number

    def _key(self, token: _Token) -> str:
        return find_key(_unquote(token), self._keys, self._file, token.column)

    def _values(self, key: str) -> tuple[Value, ...]:
        self._expect("(")
        values = [self._value(key)]
        while self._next.text == ",":
            self._take()
            values.append(self._value(key))
        self._expect(")")
        return tuple(values)

    def _value_token(self) -> _Token:
        token = self._take()
        if token.kind not in {"word", "quoted"}:
            self._fail(token, f"a value is missing before {token}", "text with spaces needs quotes")
        return token

    def _expect(self, text: str) -> None:
        if (token := self._take()).text != text:
            self._fail(token, f"expected {text!r}, not {token}")

    def _fail(self, token: _Token, message: str, hint: str = "") -> NoReturn:
        raise SpecError(Problem("bad-filter", message, hint).at(self._file, 1, token.column))


def _unquote(token: _Token) -> str:
    if token.kind != "quoted":
        return token.text
    mark = token.text[0]
    return token.text[1:-1].replace(mark * 2, mark)


def _value(token: _Token, key: str) -> Value | None:
    """Return what a value means for a key: a number, true or false, a time, or text.

    Return None for what is neither a time nor a duration, for a key that has only those.
    """
    text = _unquote(token)
    if key in _TIMES:
        return _time(text)
    if key in _DURATIONS:
        return _seconds(text)
    if token.kind == "quoted":
        return text
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if _NUMBER.fullmatch(text):
        is_float = re.search(r"[.eE]", text) or len(text) > _INTEGER_DIGITS
        return float(text) if is_float else int(text)
    return text


def _seconds(text: str) -> float | None:
    """Return the seconds of a duration; None for another text."""
    if duration := _DURATION.fullmatch(text):
        return float(duration[2]) * _SECONDS[duration[3]]
    return float(text) if _NUMBER.fullmatch(text) else None


def _time(text: str) -> str | None:
    """Return a time in UTC: of a date, today, or so long ago as -7d says; None for another text."""
    now = datetime.now().astimezone()
    try:
        if duration := _DURATION.fullmatch(text):
            moment = now - timedelta(seconds=float(duration[2]) * _SECONDS[duration[3]])
        elif text.lower() == "today":
            moment = now.replace(hour=0, minute=0, second=0, microsecond=0)
        else:
            moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):  # before the first year
        return None
