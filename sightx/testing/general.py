"""What every component promises, whatever its kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from sightx.plugin import Component, Settings
from sightx.testing.demands import Check, demand, demand_picklable

HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "sklearn")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_CHILD = """
import importlib.util, json, sys
sys.path[:], name = json.loads(sys.argv[1]), sys.argv[2]
before = set(sys.modules)
try:
    found = importlib.util.find_spec(name)
except ModuleNotFoundError:
    found = None  # a module that has no name of its own, such as a script or a test
if found:
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def name(cls: type[Component]) -> None:
    """Demand a name as every other component has one."""
    found = getattr(cls, "name", None)
    demand(
        isinstance(found, str) and _NAME.fullmatch(found),
        f"the name is {found!r}; write lower-case words with dashes, such as `my-{cls.kind}`",
    )


def docstring(cls: type[Component]) -> None:
    """Demand a first line of the class's own, which listings show."""
    line = (cls.__dict__.get("__doc__") or "").strip().partition("\n")[0]
    demand(line, "there is no docstring; its first line is what list-plugins shows")
    demand(
        10 <= len(line) <= 100 and line.endswith("."),
        f"the docstring begins {line!r}; make its first line one sentence of 10 to 100 characters",
    )


def revision(cls: type[Component]) -> None:
    """Demand a whole number that can be raised."""
    number = cls.revision
    demand(
        type(number) is int and number >= 1,
        f"revision is {number!r}; write 1, and raise it whenever results change",
    )


def fields_documented(cls: type[Component]) -> None:
    """Demand a description of every setting."""
    missing = [key for key, info in cls.model_fields.items() if not info.description]
    demand(
        not missing,
        f"{', '.join(missing)} has no description; put a string below the field",
    )


def cheap_import(cls: type[Component]) -> None:
    """Demand that naming the component costs nothing, in a process of its own."""
    imported = _imported_by(cls.__module__)
    heavy = [module for module in HEAVY if module in imported]
    demand(
        not heavy,
        f"importing {cls.__module__} imports {', '.join(heavy)}; import inside the methods",
    )


@cache
def _imported_by(module: str) -> frozenset[str]:
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    last = done.stderr.strip().rpartition("\n")[2]
    demand(done.returncode == 0, f"importing {module} in a process of its own fails: {last}")
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def immutable(component: Component) -> None:
    """Demand settings that nobody can change."""
    for key in type(component).model_fields:
        try:
            setattr(component, key, getattr(component, key))
        except (ValidationError, AttributeError):
            continue
        demand(False, f"{key} can be set; do not change model_config, settings are frozen")


def hashable(component: Component) -> None:
    """Demand types that cannot change inside."""
    for key in type(component).model_fields:
        try:
            hash(getattr(component, key))
        except TypeError:
            kind = type(getattr(component, key)).__name__
            demand(False, f"{key} holds a {kind}; use a tuple, a frozenset or a Settings class")
    demand(hash(component) == hash(component.model_copy()), "equal settings hash differently")


def picklable(component: Component) -> None:
    """Demand that settings reach another process."""
    demand_picklable(component, "define the class at the top of a module")


def round_trip(component: Component) -> None:
    """Demand that what a spec says and what the component holds are one."""
    text = json.dumps(plain(component), default=str)
    context = {"registry": Known(component)}
    again = type(component).model_validate_json(text, context=context)
    demand(
        again == component,
        f"read again from {text} it is not equal; a validator must accept what it has made",
    )


def strict(component: Component) -> None:
    """Demand that a misspelt key is refused."""
    said = {**plain(component), "no-such-setting": 1}
    try:
        context = {"registry": Known(component)}
        type(component).model_validate_json(json.dumps(said, default=str), context=context)
    except ValidationError:
        return
    demand(False, "it accepts an unknown key; do not change model_config, settings are strict")


def plain(value: Any, *, top: bool = True) -> Any:
    """Return settings as a spec says them; a component inside another with its `use`."""
    if isinstance(value, Settings):
        keys = type(value).model_fields
        said = {key: plain(getattr(value, key), top=False) for key in keys}
        return said if top or not isinstance(value, Component) else {"use": value.use, **said}
    if isinstance(value, Mapping):
        return {key: plain(item, top=False) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [plain(item, top=False) for item in value]
    return value


class Known:
    """Find the classes of the components that are inside a value, as a registry does."""

    def __init__(self, value: Any) -> None:
        self._classes = {(inner.kind, inner.use): type(inner) for inner in _inside(value)}

    def find(self, kind: str, use: str) -> type[Component]:
        """Return the class of a component inside."""
        return self._classes[kind, use]


def _inside(value: Any) -> Iterator[Component]:
    if isinstance(value, Component):
        yield value
    if isinstance(value, Settings):
        value = tuple(getattr(value, key) for key in type(value).model_fields)
    if isinstance(value, (tuple, list, frozenset)):
        for item in value:
            yield from _inside(item)


CLASS: tuple[Check, ...] = (name, docstring, revision, fields_documented, cheap_import)
SETTINGS: tuple[Check, ...] = (immutable, hashable, picklable, round_trip, strict)
