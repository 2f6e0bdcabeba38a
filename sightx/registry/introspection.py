"""What a field of a component may hold, in words, and a value that it takes.

Types are said as a reader of TOML knows them: `integer > 0`, `one of stretch, pad, cover`,
`array of strings`, `a component of kind loss`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sightx.registry.components import Component, PathKind, Settings

Names = Callable[[str], str]

MARK = "CHANGE-ME"  # stands where no type can say what would be plausible
_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("boolean", "booleans"),
    int: ("integer", "integers"),
    float: ("number", "numbers"),
    str: ("string", "strings"),
    Path: ("path", "paths"),
    Any: ("any value", "values"),
}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_SAMPLES: dict[Any, Any] = {bool: False, str: MARK, Path: f"path/to/{MARK}", Any: MARK}


@dataclass(frozen=True)
class Field:
    """Describe one key of a component's table; `default` is as TOML says it, None for none."""

    key: str
    type: str
    required: bool
    default: Any
    description: str
    example: Any


def fields(cls: type[Settings], names: Names = lambda kind: MARK) -> list[Field]:
    """Return what a table may say, required keys first.

    `names` gives the name of some component of a kind.
    """
    found = [_field(key, info, names) for key, info in cls.model_fields.items()]
    return sorted(found, key=lambda field: not field.required)


def _field(key: str, info: FieldInfo, names: Names) -> Field:
    said = _annotation(info)
    default = None if info.is_required() else to_plain(info.get_default(call_default_factory=True))
    return Field(
        key=key,
        type=describe_type(said),
        required=info.is_required(),
        default=default,
        description=" ".join((info.description or "").split()),
        example=info.examples[0] if info.examples else example_value(said, names),
    )


def to_plain(value: Any) -> Any:
    """Return a value as TOML holds it; None stays None."""
    if isinstance(value, BaseModel):
        own = {"use": value.use} if isinstance(value, Component) else {}
        pairs = {key: to_plain(getattr(value, key)) for key in type(value).model_fields}
        return own | {key: item for key, item in pairs.items() if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset, set)):
        return [to_plain(item) for item in value]
    known = isinstance(value, (bool, int, float, str, NoneType, datetime.date))
    return value if known else str(value)


def describe_type(annotation: Any) -> str:
    """Return what a type takes, in words."""
    kind, bounds = _unwrapped(annotation)
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        return " or ".join(describe_type(member) for member in members) + _limits(bounds)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (tuple, list, frozenset, set):
        return _array(kind) + _limits(bounds, "item")
    if get_origin(kind) in (dict, Mapping):
        return f"table of {_plural(get_args(kind)[1])}"
    if isinstance(kind, type) and issubclass(kind, Settings):
        return _table(kind)
    word = _WORDS[kind][0] if kind in _WORDS else str(getattr(kind, "__name__", kind))
    return word + _limits(bounds)


def example_value(annotation: Any, names: Names = lambda kind: MARK) -> Any:
    """Return a plausible value of a type; what nobody can guess holds `CHANGE-ME`."""
    kind, bounds = _unwrapped(annotation)
    if get_origin(kind):
        return _sample_of_parts(kind, bounds, names)
    if isinstance(kind, type) and issubclass(kind, Component) and not hasattr(kind, "name"):
        return {"use": names(kind.kind)}
    if isinstance(kind, type) and issubclass(kind, Settings):
        return {field.key: field.example for field in fields(kind, names) if field.required}
    return _number(kind, bounds) if kind in (int, float) else _SAMPLES.get(kind, MARK)


def _sample_of_parts(kind: Any, bounds: list[Any], names: Names) -> Any:
    """Return a value of a union, a choice, an array or a table."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return example_value(next(part for part in parts if part is not NoneType), names)
    if origin is Literal:
        return parts[0]
    if origin in (dict, Mapping):
        return {"key": example_value(parts[1], names)}
    if origin is tuple and Ellipsis not in parts:
        return [example_value(part, names) for part in parts]
    return [example_value(parts[0], names)] * max(_bound(bounds, "min_length") or 1, 1)


def _annotation(info: FieldInfo) -> Any:
    """Return a field's type with its bounds, as pydantic has taken them apart."""
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """Return the bare type and everything that bounds it."""
    bounds: list[Any] = []
    while get_origin(annotation) is Annotated:
        marks = annotation.__metadata__
        bounds += [
            inner
            for mark in marks
            for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])
        ]
        annotation = annotation.__origin__
    if hasattr(annotation, "__value__"):  # type Width = ...
        kind, more = _unwrapped(annotation.__value__)
        return kind, [*bounds, *more]
    return annotation, bounds


def _array(kind: Any) -> str:
    items = get_args(kind)
    if get_origin(kind) is tuple and Ellipsis not in items:
        same = len(set(map(describe_type, items))) == 1
        inner = _plural(items[0]) if same else ", ".join(map(describe_type, items))
        return f"array of {len(items)} {inner}" if same else f"array of {inner}"
    return f"array of {_plural(items[0])}"


def _table(kind: type[Settings]) -> str:
    if issubclass(kind, Component):
        return (
            f"component {kind.name}" if hasattr(kind, "name") else f"component of kind {kind.kind}"
        )
    keys = ", ".join(kind.model_fields)
    return f"table of {keys}" if keys else "table"


def _plural(annotation: Any) -> str:
    kind, bounds = _unwrapped(annotation)
    if kind in _WORDS:
        return _WORDS[kind][1] + _limits(bounds)
    if isinstance(kind, type) and issubclass(kind, Component) and not hasattr(kind, "name"):
        return f"components of kind {kind.kind}"
    if isinstance(kind, type) and issubclass(kind, Settings):
        return f"tables of {', '.join(kind.model_fields)}"
    return f"({describe_type(annotation)})"


def _limits(bounds: list[Any], what: str = "character") -> str:
    """Return what bounds say: ` > 0`, ` from 0 to 1`, ` ending in .pt`, ` matching ^a`."""
    low, high = ((_bound(bounds, f"{side}e"), _bound(bounds, f"{side}t")) for side in ("g", "l"))
    said = ""
    if low[0] is not None and high[0] is not None:
        said += f" from {low[0]} to {high[0]}"
    else:
        signs = {sign: _bound(bounds, name) for name, sign in _SIGNS.items()}
        said += " and".join(
            f" {sign} {value}" for sign, value in signs.items() if value is not None
        )
    shortest, longest = _bound(bounds, "min_length"), _bound(bounds, "max_length")
    said += f", at least {shortest} {what}{'s' * (shortest > 1)}" if shortest else ""
    said += f", at most {longest} {what}{'s' * (longest > 1)}" if longest else ""
    if (pattern := _bound(bounds, "pattern")) is not None:
        said += f" matching {getattr(pattern, 'pattern', pattern)}"
    anchors = [mark for mark in bounds if isinstance(mark, PathKind) and mark.suffixes]
    return said + "".join(f", or a path ending in {', '.join(a.suffixes)}" for a in anchors)


def _bound(bounds: list[Any], name: str) -> Any:
    """Return a bound by pydantic's name for it."""
    found = [getattr(mark, name, None) for mark in bounds]
    return next((value for value in found if value is not None), None)


def _number(kind: type[int] | type[float], bounds: list[Any]) -> int | float:
    """Return 1 or what lies nearest to it within the bounds."""
    low, high = _bound(bounds, "ge"), _bound(bounds, "le")
    above, below = _bound(bounds, "gt"), _bound(bounds, "lt")
    step = _bound(bounds, "multiple_of")
    value: float = 1
    if low is not None and value < low:
        value = low
    if high is not None and value > high:
        value = high
    if above is not None and value <= above:
        end = high if high is not None else below
        value = above + 1 if kind is int or end is None else (above + end) / 2
    if below is not None and value >= below:
        start = low if low is not None else above
        value = below - 1 if kind is int or start is None else (start + below) / 2
    if step is not None:
        value = step * -(-value // step)
    return kind(value)
