"""Turn what pydantic finds into problems with a place, a value and a way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sightx.errors import PluginError, Problem, SightXError, SpecError, did_you_mean
from sightx.io.toml import Key, Position
from sightx.registry.components import Component, Settings, table_class

ClassAt = Callable[[Key], type[Settings] | None]

_PLUGIN_CODES = {"broken-plugin", "name-clash"}
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "an array",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "table_type": "a table with `use`",
}
_TYPES: list[tuple[type, str]] = [
    (bool, "a boolean"), (int, "an integer"), (float, "a float"), (str, "a string"),
    (list, "an array"), (dict, "a table"),
]  # fmt: skip


def spec_failure(problems: Iterable[Problem]) -> SightXError:
    """Return the error that all problems of a spec make together, in the order of the files."""
    found = sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column))
    broken = any(problem.code in _PLUGIN_CODES for problem in found)
    return PluginError(*found) if broken else SpecError(*found)


def explain_errors(
    error: ValidationError, position: Callable[[Key], Position], class_at: ClassAt
) -> list[Problem]:
    """Return one problem for each key that is wrong; `class_at` knows the class of each table."""
    details: dict[Key, list[Any]] = {}
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        if _too_short(detail):
            location = location[:-1]  # it is the array that lacks something
        details.setdefault(_key(location, class_at), []).append(detail)
    around = {key[:length] for key in details for length in range(len(key))}
    return [
        _problem(key, found, position, class_at)
        for key, found in details.items()
        if key not in around  # an array with a wrong item is itself wrong only by that
    ]


def format_key(key: Key) -> str:
    """Return a key as messages write it: `augment.0.degrees`, `model."odd key"`."""
    return ".".join(map(_word, key))


def _word(part: str | int) -> str:
    if re.fullmatch(r"[\w-]{1,60}", text := str(part)):
        return text
    return f'"{text}"' if len(text) <= 60 else f'"{text[:57]}..."'


def _too_short(detail: Any) -> bool:
    return bool(detail["type"] == "missing" and isinstance(detail["loc"][-1], int))


def parse_key(path: str) -> Key:
    """Return the key that a message writes as `augment.0.degrees`."""
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def format_value(value: Any) -> str:
    """Return a value as TOML would write it, cut to a readable length."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _key(location: Key, class_at: ClassAt) -> Key:
    """Return the key that a location means: for pydantic it goes on into the branches of unions."""
    for depth in reversed(range(len(location))):
        if cls := class_at(location[:depth]):
            field = cls.model_fields.get(str(location[depth]))
            if field is None or not _branches(field.annotation):
                return location
            inside = (part for part in location[depth + 1 :] if isinstance(part, int))
            return (*location[: depth + 1], *inside)
    return location


def _branches(annotation: Any) -> bool:
    members = [member for member in get_args(annotation) if member is not NoneType]
    union = get_origin(annotation) in (Union, UnionType) and len(members) > 1
    return union or any(map(_branches, members))


def _problem(
    key: Key, details: list[Any], position: Callable[[Key], Position], class_at: ClassAt
) -> Problem:
    """Explain what was found at one key: one detail, or one for each branch of a union."""
    mismatches = [detail for detail in details if detail["type"] in _EXPECTED]
    if len(mismatches) == len(details):
        code, message, hint = _mismatch(details, *_field(key, class_at))
    else:
        detail = next(detail for detail in reversed(details) if detail not in mismatches)
        code, message, hint = _explain(detail, key, class_at)
    if "hint" in details[0].get("ctx", {}):
        key = (*key, "use")  # what a table names was not found
    absent = details[0]["type"] == "missing" and not _too_short(details[0])
    place = position(key[:-1] if absent else key)
    return Problem(code, message, hint, format_key(key), place.file, place.line, place.column)


def _field(key: Key, class_at: ClassAt) -> tuple[FieldInfo | None, str]:
    """Return the field that a key belongs to, and how a table there is written."""
    while key and isinstance(key[-1], int):
        key = key[:-1]
    cls = class_at(key[:-1]) if key else None
    field = cls.model_fields.get(str(key[-1])) if cls else None
    header = ".".join(part for part in key if isinstance(part, str))
    array = field is not None and get_origin(field.annotation) is tuple
    return field, f"[[{header}]]" if array else f"[{header}]"


def _mismatch(details: list[Any], field: FieldInfo | None, header: str) -> tuple[str, str, str]:
    """Say what a value is, and what it should be."""
    value = details[0]["input"]
    kind = _kind_of(value)
    given = f"is {kind}" if isinstance(value, list | dict) else f"{format_value(value)} is {kind}"
    expected = " or ".join(dict.fromkeys(_EXPECTED[detail["type"]] for detail in details))
    table = table_class(field.annotation) if field else None
    if table and details[0]["type"] == "tuple_type":
        expected = "an array of tables"
    return "wrong-type", f"{given}, expected {expected}", f"write {header}" if table else ""


def _kind_of(value: Any) -> str:
    return next((name for cls, name in _TYPES if isinstance(value, cls)), type(value).__name__)


def _explain(detail: Any, key: Key, class_at: ClassAt) -> tuple[str, str, str]:
    """Say what is wrong, other than the type."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    field, header = _field(key, class_at)
    if kind == "extra_forbidden":
        return "unknown-key", "unknown key", _way_out(str(key[-1]), key[:-1], class_at)
    if kind == "missing":
        return _missing(detail, field, header)
    if kind in ("value_error", "assertion_error"):
        said = " ".join(str(context.get("error", "")).split())
        return "invalid-value", said or f"{format_value(value)} is refused", ""
    if "hint" in context:
        return _unnamed(kind, value, detail["msg"], context["hint"])
    if kind == "string_pattern_mismatch" and _about(field):
        return "invalid-value", f"{format_value(value)} does not fit", _about(field)
    code = "not-finite" if kind == "finite_number" else "invalid-value"
    return code, f"{format_value(value)}: {_plain(detail['msg'])}", ""


def _unnamed(kind: str, table: Any, message: str, hint: str) -> tuple[str, str, str]:
    """Say why no component was found; what stands in place of a name may be none."""
    if kind == "missing-use" and "use" in table:
        given = table["use"]
        what = _kind_of(given) if isinstance(given, list | dict) else format_value(given)
        return "wrong-type", f"{what} names no component", "write a string"
    typo = (
        next((key for key in table if did_you_mean(key, ["use"])), "")
        if kind == "missing-use"
        else ""
    )
    return kind, message, f"write use in place of {typo}" if typo else hint


def _way_out(word: str, table: Key, class_at: ClassAt) -> str:
    """Return what a key was meant to be, or where it belongs, or what there is."""
    cls = class_at(table)
    known = list(getattr(cls, "model_fields", ()))
    if len(homes := _homes(word, class_at)) == 1:
        return f"it is a key of {homes[0]}"
    if near := did_you_mean(word, known):
        return near
    if cls and not known:
        return f"{getattr(cls, 'name', 'the section')} has no settings"
    if cls and issubclass(cls, Component) and len(known) > 12:
        return f"sightx show-plugin {cls.kind} {cls.name} shows every key"
    return f"known: {', '.join(known)}" if known else ""


def _homes(word: str, class_at: ClassAt) -> list[str]:
    """Return which parts of a spec take a key."""
    fields = getattr(class_at(()), "model_fields", {})
    found = ["the top of the spec"] if word in fields else []
    for section, field in fields.items():
        cls = class_at((section,)) or table_class(field.annotation)
        if cls and word in cls.model_fields:
            found.append(f"[{section}]")
    return found


def _missing(detail: Any, field: FieldInfo | None, header: str) -> tuple[str, str, str]:
    if _too_short(detail):
        number = detail["loc"][-1] + 1
        return (
            "invalid-value",
            f"{format_value(detail['input'])}: must have at least {number} items",
            "",
        )
    table = table_class(field.annotation) if field else None
    if table is None:
        return "missing-key", "is missing and has no default", _about(field)
    hint = "its `use` names a component" if issubclass(table, Component) else ""
    return "missing-section", f"the section {header} is missing", hint


def _about(field: FieldInfo | None) -> str:
    """Return the first sentence of a field's docstring, as the end of one."""
    text = " ".join(((field.description if field else "") or "").split())
    line = text.partition(". ")[0].rstrip(".")
    return line[:1].lower() + line[1:]


def _plain(message: str) -> str:
    """Return pydantic's sentence without its subject: `must be greater than 0`."""
    message = re.sub(r"^\w+ should ", "must ", message).replace(" a finite number", " finite")
    message = message.replace(" after validation", "")
    return message[:1].lower() + message[1:]
