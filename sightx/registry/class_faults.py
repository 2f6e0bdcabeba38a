"""What is wrong with a plugin's component classes, found before a spec uses one.

A class is refused whose settings a spec cannot hold, whose fields hide methods, or whose methods
SightX would not call: missing, misspelt, or with an argument that they are never given.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FunctionType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from sightx.registry.components import Component
from sightx.registry.kinds import KINDS

# No colon, dot or leading digit: `use = "owner:name"` and `--set` give them a meaning.
COMPONENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

_PLAIN_TYPES = (bool, int, float, str, NoneType, Path)
_HOLDABLE = "bool, int, float, str, Path, Literal, StrEnum, tuple, frozenset or Settings"
_TRAIT_VALUES = {bool: "True or False", int: "a whole number", tuple: "a tuple of strings"}
_SIMILAR = 0.8  # how close a misspelt name is, 0 to 1: a plugin may have names of its own
# Their arguments are offered by name only; elsewhere the first one may have any name.
_BY_NAME = {("augment", "draw"), ("augment", "matrix"), ("augment", "apply")}
_BY_NAME |= {("preprocess", "required_input_size")}
# A required method is not missing if another one replaces it: a metric computes its numbers, or
# has sums.
_REPLACED_BY = {("metric", "compute"): "sums", ("metric", "of"): "compute"}


def component_fault(components: Sequence[Any], *, is_builtin: bool = False) -> str:
    """Return what is wrong with the components of a plugin, "" if nothing is.

    Of the built-ins only what takes no time is looked at; a test examines them.
    """
    for component in components:
        if fault := _identity_fault(component):
            return fault
        faults = () if is_builtin else (_settings_fault, _trait_fault, _method_fault)
        if fault := next(filter(None, (find(component) for find in faults)), ""):
            return f"the {component.kind} {component.name!r}: {fault}"
    counts = Counter(f"{component.kind} {component.name!r}" for component in components)
    return next((f"two components are the {name}" for name, n in counts.items() if n > 1), "")


def _identity_fault(component: Any) -> str:
    if not (isinstance(component, type) and issubclass(component, Component)):
        return f"{component!r} is not a component class"
    title, fields = component.__name__, component.model_fields
    kinds = [cls.kind for cls in KINDS if issubclass(component, cls)]
    if (kind := getattr(component, "kind", None)) not in kinds:
        return f"{title} is not a subclass of a kind"
    if reserved := [key for key in ("name", "kind", "revision", "use") if key in fields]:
        return f"{title} makes {reserved[0]!r} a field: write it without a type"
    name = getattr(component, "name", None)
    if not (isinstance(name, str) and COMPONENT_NAME.fullmatch(name)):
        return f"{title} needs a name of letters, digits, - and _, not {name!r}"
    if type(component.revision) is not int or component.revision < 1:
        return f"the {kind} {name!r} needs a revision of 1 or more"
    has_docstring = component.__doc__ or sys.flags.optimize > 1  # which drops docstrings
    return "" if has_docstring else f"the {kind} {name!r} has no docstring"


def _settings_fault(cls: type[Component]) -> str:
    """Return what is wrong with the fields: names that hide something, types no spec can hold."""
    kind = _kind_class(cls)
    for key, field in cls.model_fields.items():
        if hasattr(kind, key) and key not in kind.model_fields:
            return f"the field {key!r} hides what every {kind.kind} has; choose another name"
        types = set(_value_types(field.annotation))
        if refused := [item for item in types if not _is_holdable(item)]:
            name = refused[0].__name__
            return (
                f"the field {key!r} has the type {name}, which a spec cannot hold; use {_HOLDABLE}"
            )
        if key in kind.model_fields and not _is_narrower(types, kind.model_fields[key].annotation):
            return f"the field {key!r} has another type than that of every {kind.kind}; rename it"
    return ""


def _value_types(annotation: Any) -> Iterator[type]:
    """Yield the types that an annotation allows: of containers, and of what they contain."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _value_types(parts[0])
    elif origin is Literal:
        yield from map(type, parts)
    elif origin in (Union, UnionType) or (isinstance(origin, type) and parts):
        if isinstance(origin, type) and origin is not UnionType:
            yield origin
        for part in parts:
            yield from _value_types(part)
    elif isinstance(annotation, type):
        yield annotation


def _is_holdable(cls: type) -> bool:
    """Return whether values of a type cannot change, and are the same when read from a spec."""
    if issubclass(cls, enum.Enum):
        return issubclass(cls, (str, int))
    return cls in (*_PLAIN_TYPES, tuple, frozenset, object) or issubclass(cls, BaseModel)


def _is_narrower(types: set[type], annotation: Any) -> bool:
    """Return whether values of these types fit the annotation; an int fits a float."""
    allowed = tuple(_value_types(annotation))
    return all(issubclass(item, allowed) or (item is int and float in allowed) for item in types)


def _trait_fault(cls: type[Component]) -> str:
    """Return which trait has a value of another type than that of the kind, "" if none has.

    A trait may be a property, which knows the settings.
    """
    kind = _kind_class(cls)
    for base in kind.__mro__:
        for name in getattr(base, "__class_vars__", ()):
            default, value = vars(base).get(name), inspect.getattr_static(cls, name, None)
            is_trait = type(default) in _TRAIT_VALUES and not isinstance(value, property)
            if is_trait and type(value) is not type(default):
                return f"{name} is {value!r}; write {_TRAIT_VALUES[type(default)]}"
    return ""


def _method_fault(cls: type[Component]) -> str:
    """Return what is wrong with the methods: one is missing, misspelt, or asks for too much."""
    kind = _kind_class(cls)
    methods = {
        name: method
        for name, method in vars(kind).items()
        if isinstance(method, FunctionType) and not name.startswith("_")
    }
    inherited = [name for name in methods if getattr(cls, name) is methods[name]]
    overridden = [name for name in methods if name not in inherited]
    for name in inherited:
        is_required = "NotImplementedError" in methods[name].__code__.co_names
        if is_required and _REPLACED_BY.get((kind.kind, name)) not in overridden:
            close = difflib.get_close_matches(name, _own_names(cls, kind), 1)
            return f"the method {name}() is missing" + (f"; rename {close[0]}()" if close else "")
    attributes = [*inherited, *(kind.__class_vars__ - vars(cls).keys())]
    for name in _own_names(cls, kind):
        if close := difflib.get_close_matches(name, attributes, 1, _SIMILAR):
            private = f"if not, call it _{name}"
            return f"SightX does not use {name!r}; did you mean {close[0]!r}? {private}"
    for name in overridden:
        if isinstance(inspect.getattr_static(cls, name), staticmethod):
            return f"{name}() is a static method; its first argument is self"
    faults = (_signature_fault(kind.kind, methods[name], getattr(cls, name)) for name in overridden)
    return next(filter(None, faults), "")


def _own_names(cls: type[Component], kind: type[Component]) -> list[str]:
    """Return the public methods and class variables that the kind does not have."""
    own = [base for base in cls.__mro__ if not issubclass(kind, base)]
    return [
        name
        for base in own
        for name, value in vars(base).items()
        if not name.startswith("_") and not hasattr(kind, name) and name != "example"
        if callable(value) or name in cls.__class_vars__
    ]


def _signature_fault(kind: str, declared: FunctionType, method: Any) -> str:
    """Return which argument of a method SightX never passes, "" if it passes all."""
    if not isinstance(method, FunctionType):
        return ""  # a static method, or another callable
    names = list(inspect.signature(declared).parameters)[1:]
    positional = declared.__code__.co_argcount > 1 and (kind, declared.__name__) not in _BY_NAME
    for index, parameter in enumerate(list(inspect.signature(method).parameters.values())[1:]):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        is_first = positional and index == 0 and parameter.kind is not parameter.KEYWORD_ONLY
        if is_first and parameter.name in names[1:]:
            return f"the first argument of {method.__name__}() is {names[0]}, not {parameter.name}"
        if parameter.default is parameter.empty and not is_first and parameter.name not in names:
            offered = ", ".join(names) or "none"
            return f"{method.__name__}() needs {parameter.name!r}; its arguments are: {offered}"
    return ""


def _kind_class(cls: type[Component]) -> type[Component]:
    return next(kind for kind in KINDS if issubclass(cls, kind))
