"""Turn what pydantic finds into problems with a place, a value and a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from sightx.document import Key, Position
from sightx.errors import PluginError, Problem, SightXError, SpecError
from sightx.registry.components import Settings
from sightx.registry.registry import suggest

_PLUGIN_CODES = {"broken-plugin", "name-clash"}
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "path_type": "a path as a string",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "table_type": "a table with `use`",
}
_TYPES: list[tuple[type, str]] = [
    (bool, "a boolean"), (int, "an integer"), (float, "a float"), (str, "a string"),
    (list, "an array"), (dict, "a table"),
]  # fmt: skip


def failure(problems: list[Problem]) -> SightXError:
    """Return the error that all problems of a spec make together."""
    broken = any(problem.code in _PLUGIN_CODES for problem in problems)
    return PluginError(*problems) if broken else SpecError(*problems)


def problems(
    error: ValidationError,
    position: Callable[[Key], Position],
    class_at: Callable[[Key], type[Settings] | None],
) -> list[Problem]:
    """Return one problem for each finding; `class_at` knows which keys a table may have."""
    found = [_problem(detail, class_at) for detail in error.errors(include_url=False)]
    placed = []
    for problem, key in found:
        place = position(key)
        placed.append(problem.at(place.file, place.line, place.column))
    return sorted(placed, key=lambda problem: (problem.file, problem.line, problem.column))


def dotted(key: Key) -> str:
    """Return a key as messages write it: `augment.0.degrees`."""
    return ".".join(str(part) for part in key)


def _problem(
    detail: Any, class_at: Callable[[Key], type[Settings] | None]
) -> tuple[Problem, Key]:
    key: Key = tuple(detail["loc"])
    code, message, hint = _explain(detail, class_at(key[:-1]))
    if detail["type"] == "missing":
        return Problem(code, message, hint, path=dotted(key)), key[:-1]
    return Problem(code, message, hint, path=dotted(key)), key


def _explain(detail: Any, table_class: type[Settings] | None) -> tuple[str, str, str]:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(table_class.model_fields) if table_class else []
        return "unknown-key", "unknown key", suggest(str(detail["loc"][-1]), known)
    if kind == "missing":
        return "missing-key", "is missing", "it has no default"
    if kind == "missing_use":
        return "missing-use", detail["msg"], "sightx list-plugins shows the names"
    if kind == "finite_number":
        return "not-finite", f"{value!r} must be finite", ""
    if kind in _EXPECTED:
        return "wrong-type", f"{shown(value)} is {_type(value)}, expected {_EXPECTED[kind]}", ""
    if "hint" in context:
        return kind, detail["msg"], context["hint"]
    return "invalid-value", f"{shown(value)}: {_lower(detail['msg'])}", ""


def shown(value: Any) -> str:
    """Return a value as TOML would write it, cut to a readable length."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _type(value: Any) -> str:
    return next((name for cls, name in _TYPES if isinstance(value, cls)), type(value).__name__)


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
