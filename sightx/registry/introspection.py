"""Describe the fields of components: type in words, default, example, and docstring.

Types are written for readers of TOML: `integer > 0`, `one of stretch, pad, cover`,
`array of strings`, `component of kind loss`.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sightx.registry.components import Component, PathKind, Settings, to_plain

ExampleName = Callable[[str], str]

MARK = "CHANGE-ME"  # the example of a type that allows no plausible guess
_ONE_AND_MANY: dict[Any, tuple[str, str]] = {
    bool: ("boolean", "booleans"),
    int: ("integer", "integers"),
    float: ("number", "numbers"),
    str: ("string", "strings"),
    Path: ("path", "paths"),
    Any: ("any value", "values"),
}
_EXAMPLES: dict[Any, Any] = {bool: False, str: MARK, Path: f"path/to/{MARK}", Any: MARK}
_NO_DOCSTRINGS = 2  # level of optimisation from which Python drops docstrings
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True)
class FieldDescription:
    """One key of a component's table; `default` is plain data, None if there is no default."""

    key: str
    type: str
    required: bool
    default: Any
    description: str
    example: Any


def describe_fields(
    cls: type[Settings], example_name: ExampleName = lambda kind: MARK
) -> list[FieldDescription]:
    """Return the keys of a table, required ones first.

    `example_name` returns the name of some component of a kind.
    """
    descriptions = field_descriptions(cls)
    fields = [
        _describe_field(key, field, descriptions.get(key, ""), example_name)
        for key, field in cls.model_fields.items()
    ]
    return sorted(fields, key=lambda field: not field.required)


def _describe_field(
    key: str, field: FieldInfo, description: str, example_name: ExampleName
) -> FieldDescription:
    # pydantic has moved the bounds out of the annotation.
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[annotation, *field.metadata]
    default = None
    if not field.is_required():
        default = to_plain(field.get_default(call_default_factory=True, validated_data={}))
    return FieldDescription(
        key=key,
        type=describe_type(annotation),
        required=field.is_required(),
        default=default,
        description=" ".join(description.split()),
        example=field.examples[0] if field.examples else example_value(annotation, example_name),
    )


@cache
def field_descriptions(cls: type[BaseModel]) -> Mapping[str, str]:
    """Return what each documented field of a class is for: the docstring below it.

    The docstring in the nearest base class counts; `Field(description=...)` goes before it.
    pydantic could collect docstrings when it creates a class, but that would slow down every start.
    """
    described = {key: info.description or "" for key, info in cls.model_fields.items()}
    for base in cls.__mro__:
        if base is BaseModel or all(described.values()):
            break
        for key, text in _field_docstrings(base).items():
            if not described.get(key, text):
                described[key] = text
    return {key: text for key, text in described.items() if text}


def docstring(cls: type) -> str:
    """Return the docstring of a class without indentation; "" if it has none.

    Under `python -OO`, which drops docstrings, it is read from the source.
    """
    if cls.__doc__ or sys.flags.optimize < _NO_DOCSTRINGS:
        return inspect.cleandoc(cls.__doc__ or "")
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # there is no source
        return ""
    return (ast.get_docstring(tree) if isinstance(tree, ast.ClassDef) else None) or ""


@cache
def _field_docstrings(cls: type) -> dict[str, str]:
    """Return the strings below annotated names in the body of a class."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    body: list[Any] = getattr(tree, "body", [])
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def describe_type(annotation: Any) -> str:
    """Return in words what values a type accepts."""
    kind, bounds = _split_annotation(annotation)
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        return " or ".join(map(describe_type, members)) + _describe_bounds(bounds)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (tuple, list, frozenset, set):
        return _describe_array(kind) + _describe_bounds(bounds, "item")
    if get_origin(kind) in (dict, Mapping):
        return f"table of {_plural(get_args(kind)[1])}"
    if _is_settings(kind):
        return _describe_table(kind)
    name = _ONE_AND_MANY[kind][0] if kind in _ONE_AND_MANY else getattr(kind, "__name__", kind)
    return f"{name}{_describe_bounds(bounds)}"


def example_value(annotation: Any, example_name: ExampleName = lambda kind: MARK) -> Any:
    """Return a plausible value of a type; `CHANGE-ME` if there is none."""
    kind, bounds = _split_annotation(annotation)
    if get_origin(kind):
        return _example_of_parts(kind, bounds, example_name)
    if _is_settings(kind) and issubclass(kind, Component) and not hasattr(kind, "name"):
        return {"use": example_name(kind.kind)}
    if _is_settings(kind):
        fields = describe_fields(kind, example_name)
        return {field.key: field.example for field in fields if field.required}
    return _example_number(kind, bounds) if kind in (int, float) else _EXAMPLES.get(kind, MARK)


def _example_of_parts(kind: Any, bounds: list[Any], example_name: ExampleName) -> Any:
    """Return a value of a union, a literal, an array or a table."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return example_value(next(part for part in parts if part is not NoneType), example_name)
    if origin is Literal:
        return parts[0]
    if origin in (dict, Mapping):
        return {"key": example_value(parts[1], example_name)}
    if origin is tuple and Ellipsis not in parts:
        return [example_value(part, example_name) for part in parts]
    return [example_value(parts[0], example_name)] * max(_bound(bounds, "min_length") or 1, 1)


def _example_number(kind: type[int] | type[float], bounds: list[Any]) -> int | float:
    """Return 1, or the nearest number within the bounds."""
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


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _split_annotation(annotation: Any) -> tuple[Any, list[Any]]:
    """Return the bare type, and the marks that bound it."""
    bounds: list[Any] = []
    while get_origin(annotation) is Annotated:
        for mark in annotation.__metadata__:
            bounds += mark.metadata if isinstance(mark, FieldInfo) else [mark]
        annotation = annotation.__origin__
    if hasattr(annotation, "__value__"):  # type Width = ...
        kind, more = _split_annotation(annotation.__value__)
        return kind, [*bounds, *more]
    return annotation, bounds


def _describe_table(kind: type[Settings]) -> str:
    if issubclass(kind, Component):
        named = hasattr(kind, "name")
        return f"component {kind.name}" if named else f"component of kind {kind.kind}"
    keys = ", ".join(kind.model_fields)
    return f"table of {keys}" if keys else "table"


def _describe_array(kind: Any) -> str:
    items = get_args(kind)
    if get_origin(kind) is tuple and Ellipsis not in items:
        same = len(set(map(describe_type, items))) == 1
        inner = _plural(items[0]) if same else ", ".join(map(describe_type, items))
        return f"array of {len(items)} {inner}" if same else f"array of {inner}"
    return f"array of {_plural(items[0])}"


def _plural(annotation: Any) -> str:
    kind, bounds = _split_annotation(annotation)
    if kind in _ONE_AND_MANY:
        return _ONE_AND_MANY[kind][1] + _describe_bounds(bounds)
    if _is_settings(kind) and issubclass(kind, Component) and not hasattr(kind, "name"):
        return f"components of kind {kind.kind}"
    if _is_settings(kind):
        return f"tables of {', '.join(kind.model_fields)}"
    return f"({describe_type(annotation)})"


def _describe_bounds(bounds: list[Any], unit: str = "character") -> str:
    """Return bounds in words: ` > 0`, ` from 0 to 1`, ` ending in .pt`, ` matching ^a`."""
    low, high = _bound(bounds, "ge"), _bound(bounds, "le")
    if low is not None and high is not None:
        text = f" from {low} to {high}"
    else:
        limits = {sign: _bound(bounds, name) for name, sign in _SIGNS.items()}
        text = " and".join(
            f" {sign} {value}" for sign, value in limits.items() if value is not None
        )
    shortest, longest = _bound(bounds, "min_length"), _bound(bounds, "max_length")
    text += f", at least {shortest} {unit}{'s' * (shortest > 1)}" if shortest else ""
    text += f", at most {longest} {unit}{'s' * (longest > 1)}" if longest else ""
    if (pattern := _bound(bounds, "pattern")) is not None:
        text += f" matching {getattr(pattern, 'pattern', pattern)}"
    for mark in bounds:
        if isinstance(mark, PathKind) and mark.suffixes:
            text += f", or a path ending in {', '.join(mark.suffixes)}"
    return text


def _bound(bounds: list[Any], name: str) -> Any:
    """Return a bound by pydantic's name for it, or None."""
    values = [getattr(mark, name, None) for mark in bounds]
    return next((value for value in values if value is not None), None)
