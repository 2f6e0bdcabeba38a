"""Turn pydantic's validation errors into problems with a position, a value and a hint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sightx.errors import PluginError, Problem, SightXError, SpecError, did_you_mean
from sightx.io.toml import Key, Position
from sightx.registry.components import Component, Settings, table_class
from sightx.registry.introspection import field_descriptions
from sightx.registry.suggestions import other_settings

ClassAt = Callable[[Key], type[Settings] | None]
Explanation = tuple[str, str, str]  # code, message, hint

PLUGIN_CODES = {"broken-plugin", "name-clash", "wrong-result"}
_LOOKUP_CODES = {"missing-use", "unknown-name", *PLUGIN_CODES}
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
    """Return the error for all problems of a spec, sorted by position."""
    ordered = sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column))
    is_broken = any(problem.code in PLUGIN_CODES for problem in ordered)
    return PluginError(*ordered) if is_broken else SpecError(*ordered)


def explain_errors(
    error: ValidationError, position: Callable[[Key], Position], class_at: ClassAt
) -> list[Problem]:
    """Return one problem for each wrong key.

    Args:
        error: What pydantic raised.
        position: Returns where a key is written.
        class_at: Returns the class of the table at a key, None if it is unknown.
    """
    details: dict[Key, list[Any]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":
            continue  # this default depends on a key that is wrong itself
        location = detail["loc"]
        if _is_too_short(detail):
            location = location[:-1]  # the array lacks items
        details.setdefault(_key(location, class_at), []).append(detail)
    parents = {key[:length] for key in details for length in range(len(key))}
    return [
        _problem(_Place.of(key, class_at), key_details, position, class_at)
        for key, key_details in details.items()
        if key not in parents  # pydantic also reports the array around a wrong item
    ]


def format_key(key: Key) -> str:
    """Return a key as messages write it: `augment.0.degrees`, `model."a b"`."""
    return ".".join(map(_format_part, key))


def _format_part(part: str | int) -> str:
    if re.fullmatch(r"[\w-]{1,60}", text := str(part)):
        return text
    return f'"{text}"' if len(text) <= 60 else f'"{text[:57]}..."'


def parse_key(path: str) -> Key:
    """Return the key that a message writes as `augment.0.degrees`."""
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def format_value(value: Any) -> str:
    """Return a value as TOML would write it, cut to 60 characters."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class _Place:
    """A key of a spec, and the field there, with its class and its docstring's first sentence."""

    key: Key
    cls: type[Settings] | None
    field: FieldInfo | None
    purpose: str

    @classmethod
    def of(cls, key: Key, class_at: ClassAt) -> _Place:
        table = key
        while table and isinstance(table[-1], int):
            table = table[:-1]
        settings = class_at(table[:-1]) if table else None
        name = str(table[-1]) if table else ""
        if settings is None or name not in settings.model_fields:
            return cls(key, settings, None, "")
        text = " ".join(field_descriptions(settings).get(name, "").split())
        sentence = text.partition(". ")[0].rstrip(".")
        purpose = sentence[:1].lower() + sentence[1:]
        return cls(key, settings, settings.model_fields[name], purpose)

    @property
    def table(self) -> type[Settings] | None:
        """Return the class of the table, or of the array of tables, that the field holds."""
        return table_class(self.field.annotation) if self.field else None

    @property
    def header(self) -> str:
        """Return how the table is written: `[optimizer]` or `[[augment]]`."""
        name = ".".join(part for part in self.key if isinstance(part, str))
        is_array = self.field is not None and get_origin(self.field.annotation) is tuple
        return f"[[{name}]]" if is_array else f"[{name}]"


def _is_too_short(detail: Any) -> bool:
    return bool(detail["type"] == "missing" and isinstance(detail["loc"][-1], int))


def _key(location: Key, class_at: ClassAt) -> Key:
    """Return the key of a pydantic location, which also names the branches of unions."""
    for depth in reversed(range(len(location))):
        if cls := class_at(location[:depth]):
            field = cls.model_fields.get(str(location[depth]))
            if field is None or not _has_union(field.annotation):
                return location
            items = (part for part in location[depth + 1 :] if isinstance(part, int))
            return (*location[: depth + 1], *items)
    return location


def _has_union(annotation: Any) -> bool:
    members = [member for member in get_args(annotation) if member is not NoneType]
    is_union = get_origin(annotation) in (Union, UnionType) and len(members) > 1
    return is_union or any(map(_has_union, members))


def _problem(
    place: _Place, details: list[Any], position: Callable[[Key], Position], class_at: ClassAt
) -> Problem:
    """Explain the details at one key: one, or one for each branch of a union."""
    key = place.key
    mismatches = [detail for detail in details if detail["type"] in _EXPECTED]
    if len(mismatches) == len(details):
        code, message, hint = _explain_types(details, place)
    else:
        detail = next(detail for detail in reversed(details) if detail not in mismatches)
        code, message, hint = _explain(detail, place, class_at)
    if details[0]["type"] in _LOOKUP_CODES:
        key = (*key, "use")
    is_absent = details[0]["type"] == "missing" and not _is_too_short(details[0])
    at = position(key[:-1] if is_absent else key)
    return Problem(code, message, hint, format_key(key), at.file, at.line, at.column)


def _explain_types(details: list[Any], place: _Place) -> Explanation:
    """Name the type of a value, and the types that are accepted there."""
    value = details[0]["input"]
    kind = _type_name(value)
    given = f"is {kind}" if isinstance(value, list | dict) else f"{format_value(value)} is {kind}"
    expected = " or ".join(dict.fromkeys(_EXPECTED[detail["type"]] for detail in details))
    if place.table and details[0]["type"] == "tuple_type":
        expected = "an array of tables"
    hint = f"write {place.header}" if place.table else ""
    return "wrong-type", f"{given}, expected {expected}", hint


def _type_name(value: Any) -> str:
    return next((name for cls, name in _TYPES if isinstance(value, cls)), type(value).__name__)


def _explain(detail: Any, place: _Place, class_at: ClassAt) -> Explanation:
    """Explain an error other than a wrong type."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown-key", "unknown key", _hint_for_unknown_key(place.key, class_at)
    if kind == "missing":
        return _explain_missing(detail, place)
    if kind in ("value_error", "assertion_error"):
        message = " ".join(str(context.get("error", "")).split())
        return "invalid-value", message or f"{format_value(value)} is refused", ""
    if kind == "missing-use":
        return _explain_missing_use(value, detail["msg"], context["hint"])
    if "hint" in context:  # a PydanticCustomError with a code
        return kind, detail["msg"], context["hint"]
    return _explain_value(detail, place)


def _explain_value(detail: Any, place: _Place) -> Explanation:
    value = format_value(detail["input"])
    if detail["type"] == "string_pattern_mismatch" and place.purpose:
        return "invalid-value", f"{value} does not fit", place.purpose
    code = "not-finite" if detail["type"] == "finite_number" else "invalid-value"
    choices = re.findall(r"'([^']*)'", detail.get("ctx", {}).get("expected", ""))
    hint = did_you_mean(str(detail["input"]), choices) if len(choices) > 2 else ""
    return code, f"{value}: {_without_subject(detail['msg'])}", hint


def _explain_missing_use(table: Any, message: str, hint: str) -> Explanation:
    """Explain a table without a `use` that is a string."""
    if "use" in table:
        use = table["use"]
        given = _type_name(use) if isinstance(use, list | dict) else format_value(use)
        return "wrong-type", f"{given} does not name a component", "write a string"
    typo = next((key for key in table if did_you_mean(key, ["use"])), "")
    return "missing-use", message, f"write use in place of {typo}" if typo else hint


def _explain_missing(detail: Any, place: _Place) -> Explanation:
    if _is_too_short(detail):
        count = detail["loc"][-1] + 1
        value = format_value(detail["input"])
        return "invalid-value", f"{value}: must have at least {count} items", ""
    if place.table is None:
        return "missing-key", "is missing and has no default", place.purpose
    hint = "its `use` names a component" if issubclass(place.table, Component) else ""
    return "missing-section", f"the section {place.header} is missing", hint


def _hint_for_unknown_key(key: Key, class_at: ClassAt) -> str:
    """Return where a key belongs, which key is meant, or which keys there are."""
    name, cls = str(key[-1]), class_at(key[:-1])
    known = list(cls.model_fields) if cls else []
    if len(sections := _sections_with(name, class_at)) == 1:
        return f"it is a key of {sections[0]}"
    for other in other_settings(name):
        if other in known:
            return f"did you mean {other!r}?"
    if meant := did_you_mean(name, known) or _hint_for_other_section(name, class_at):
        return meant
    if cls and not known:
        return f"{getattr(cls, 'name', 'the section')} has no settings"
    if cls and issubclass(cls, Component) and len(known) > 12:
        return f"sightx show-plugin {cls.kind} {cls.name} shows every key"
    return f"known: {', '.join(known)}" if known else ""


def _hint_for_other_section(name: str, class_at: ClassAt) -> str:
    """Return the key that is meant by a name of another library, and its section; or ""."""
    for key in other_settings(name, of_datasets=False):
        if len(sections := _sections_with(key, class_at)) == 1:
            return f"did you mean {key!r}, a key of {sections[0]}?"
    return ""


def _sections_with(name: str, class_at: ClassAt) -> list[str]:
    """Return which parts of a spec accept a key."""
    root = class_at(())
    fields = root.model_fields if root else {}
    sections = ["the top of the spec"] if name in fields else []
    for section, field in fields.items():
        cls = class_at((section,)) or table_class(field.annotation)
        if cls and name in cls.model_fields:
            sections.append(f"[{section}]")
    return sections


def _without_subject(message: str) -> str:
    """Return pydantic's sentence without its subject: `must be greater than 0`."""
    message = re.sub(r"^\w+ should ", "must ", message).replace(" a finite number", " finite")
    message = message.replace(" after validation", "")
    return message[:1].lower() + message[1:]
