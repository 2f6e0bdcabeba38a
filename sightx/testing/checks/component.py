"""Checks of components of every kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from sightx.plugin import Component, Settings, field_descriptions, to_plain
from sightx.testing.assertions import ContractCheck, require, require_picklable
from sightx.testing.fixtures import load_experiment

HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "sklearn")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_CHILD = """
import importlib.util, json, sys
sys.path[:], name = json.loads(sys.argv[1]), sys.argv[2]
before = set(sys.modules)
try:
    spec = importlib.util.find_spec(name)
except ModuleNotFoundError:
    spec = None  # The module cannot be imported by name: a script or a test.
if spec:
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def name(cls: type[Component]) -> None:
    """Require a name of lower-case words and dashes."""
    value = getattr(cls, "name", None)
    require(
        isinstance(value, str) and _NAME.fullmatch(value),
        f"the name is {value!r}; write lower-case words with dashes, such as `my-{cls.kind}`",
    )


def docstring(cls: type[Component]) -> None:
    """Require a docstring, whose first line is shown in listings."""
    line = (cls.__dict__.get("__doc__") or "").strip().partition("\n")[0]
    require(line, "there is no docstring; list-plugins shows its first line")
    require(
        10 <= len(line) <= 100 and line.endswith("."),
        f"the docstring begins {line!r}; its first line must be a sentence of 10 to 100 characters",
    )


def revision(cls: type[Component]) -> None:
    """Require a revision number."""
    number = cls.revision
    require(
        type(number) is int and number >= 1,
        f"revision is {number!r}; write 1, and increment it whenever results change",
    )


def fields_documented(cls: type[Component]) -> None:
    """Require a description of every field."""
    missing = [key for key in cls.model_fields if key not in field_descriptions(cls)]
    require(
        not missing,
        f"{', '.join(missing)} has no description; write a docstring below the field",
    )


def defaults_are_constant(cls: type[Component]) -> None:
    """Require the same default each time: a spec that leaves a setting out is one experiment."""
    for key, info in cls.model_fields.items():
        if info.default_factory is None or info.default_factory_takes_validated_data:
            continue
        values = []
        for _ in range(3):
            values.append(info.get_default(call_default_factory=True))
            time.sleep(0.001)  # a clock must have time to show another value
        require(values[0] == values[1] == values[2], f"the default of {key} differs each time")


def paths_are_marked(cls: type[Component]) -> None:
    """Require that fields for paths say what they hold, so that specs can write them as usual."""
    for key, annotation in get_type_hints(cls, include_extras=True).items():
        if key in cls.model_fields and _has_plain_path(annotation):
            message = f"{key} is a plain Path, which is not found relative to the spec"
            require(False, f"{message}; use File, Place or Location of sightx.plugin")


def _has_plain_path(annotation: Any) -> bool:
    """Return whether an annotation has a `Path` outside of `File`, `Place` and the like."""
    if get_origin(annotation) is Annotated and any(
        type(mark).__name__ == "PathKind" for mark in annotation.__metadata__
    ):
        return False
    return annotation is Path or any(map(_has_plain_path, get_args(annotation)))


def cheap_import(cls: type[Component]) -> None:
    """Require that the module imports nothing heavy, in a new process."""
    imported = _imported_by(cls.__module__)
    heavy = [module for module in HEAVY if module in imported]
    require(
        not heavy,
        f"importing {cls.__module__} imports {', '.join(heavy)}; import inside methods",
    )


@cache
def _imported_by(module: str) -> frozenset[str]:
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), module]
    child = subprocess.run(  # noqa: S603
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    last = child.stderr.strip().rpartition("\n")[2]
    require(child.returncode == 0, f"importing {module} in a new process fails: {last}")
    return frozenset(json.loads(child.stdout.splitlines()[-1]))


def immutable(component: Component) -> None:
    """Require settings that cannot be changed."""
    for key in type(component).model_fields:
        try:
            setattr(component, key, getattr(component, key))
        except (ValidationError, AttributeError):
            continue
        require(False, f"{key} can be set; do not change model_config, settings are frozen")


def hashable(component: Component) -> None:
    """Require settings of immutable types."""
    for key in type(component).model_fields:
        try:
            hash(getattr(component, key))
        except TypeError:
            kind = type(getattr(component, key)).__name__
            require(False, f"{key} holds a {kind}; use a tuple, a frozenset or a Settings class")
    require(hash(component) == hash(component.model_copy()), "equal settings hash differently")


def picklable(component: Component) -> None:
    """Require that settings can be sent to another process."""
    require_picklable(component, "define the class at the top of a module")


def round_trip(component: Component) -> None:
    """Require that the component is equal after it is written as a spec and read again."""
    settings = dict(component)
    again = instantiate(type(component), settings)
    require(
        again == component,
        f"read again from {_to_json(settings)} it is not equal; "
        "a validator must accept its own result",
    )


def strict(component: Component) -> None:
    """Require that unknown keys are refused."""
    try:
        instantiate(type(component), {**dict(component), "no-such-setting": 1})
    except ValidationError:
        return
    require(False, "it accepts an unknown key; do not change model_config, settings are strict")


def instantiate(cls: type[Component], settings: Mapping[str, Any]) -> Component:
    """Return a component with settings that are validated as if they were read from a spec.

    A component inside may be an instance, or a table with `use` as a spec writes it: a component of
    the same module, a built-in one or one of an installed plugin.
    """
    inner = _InnerComponents(tuple(settings.values()), cls.__module__)
    return cls.model_validate_json(_to_json(settings), context={"registry": inner})


def _to_json(settings: Mapping[str, Any]) -> str:
    return json.dumps(to_plain(settings))


class _InnerComponents:
    """A registry of the components inside a value, of those in a module, and of all installed."""

    def __init__(self, value: Any, module: str) -> None:
        self._classes: dict[tuple[str, str], type[Component]] = {}
        for cls in vars(sys.modules[module]).values():
            if isinstance(cls, type) and issubclass(cls, Component) and hasattr(cls, "name"):
                self._classes[cls.kind, cls.name] = cls
        self._classes |= {(inner.kind, inner.use): type(inner) for inner in _walk(value)}

    def find(self, kind: str, use: str) -> type[Component]:
        """Return the class of an inner component. Raises LookupError."""
        if (kind, use) in self._classes:
            return self._classes[kind, use]
        cls: type[Component] = _installed().find(kind, use)
        return cls


@cache
def _installed() -> Any:
    """Return the registry of the built-in components and of installed plugins."""
    with tempfile.TemporaryDirectory(prefix="sightx-") as folder:
        return load_experiment(Path(folder)).context.registry


def _walk(value: Any) -> Iterator[Component]:
    if isinstance(value, Component):
        yield value
    if isinstance(value, Settings):
        value = tuple(dict(value).values())
    if isinstance(value, (tuple, list, frozenset)):
        for item in value:
            yield from _walk(item)


CLASS_CHECKS: tuple[ContractCheck, ...] = (
    name, docstring, revision, fields_documented, defaults_are_constant, paths_are_marked,
    cheap_import,
)  # fmt: skip
SETTINGS_CHECKS: tuple[ContractCheck, ...] = (immutable, hashable, picklable, round_trip, strict)
