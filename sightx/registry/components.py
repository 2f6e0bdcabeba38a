"""Components: frozen, strictly validated settings with a name, and methods that do the work.

The fields are the keys of a table in a spec. Modules of components import nothing heavy, such as
torch, at their top: commands that only read specs import them too.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    PositiveFloat,
    PrivateAttr,
    ValidationError,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sightx.errors import PluginError, Problem, SightXError
from sightx.registry.descriptions import DescribedFields, described

if TYPE_CHECKING:
    from sightx.registry.registry import Registry


class Settings(BaseModel):
    """Immutable settings; values are not coerced, and unknown keys are an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # most classes of a registry are never used by one command
    )
    if not TYPE_CHECKING:
        model_fields: ClassVar[DescribedFields] = DescribedFields()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build with descriptions: JSON Schema, and so an editor, shows them."""
        described(cls)
        return handler(source)


Kind = TypeVar("Kind", bound=Settings)


def validate_settings(
    cls: type[Kind], data: Mapping[str, Any], registry: Registry | None = None
) -> Kind:
    """Return settings from what TOML or JSON says; names are looked up in the registry.

    The data pass as JSON text: only so does pydantic's strict mode take lists for tuples, and
    strings for paths. Raises pydantic's ValidationError.
    """
    return cls.model_validate_json(json.dumps(data, default=str), context={"registry": registry})


def table_class(annotation: Any) -> type[Settings] | None:
    """Return the class of the table, or of the array of tables, that a field is; else None."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next(filter(None, map(table_class, get_args(annotation))), None)


class Component(Settings):
    """A class that a spec can name; its fields are the keys of the table that names it.

    A subclass of a kind sets `name`. Increment `revision` whenever results change: it is part of
    the experiment id.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    revision: ClassVar[int] = 1
    needs_order: ClassVar[bool] = False  # whether it is meaningful for ordered classes only
    capturable: ClassVar[bool] = False  # whether its part of a step can be in a CUDA graph
    _use: str | None = PrivateAttr(default=None)

    @property
    def use(self) -> str:
        """Return the name that the spec uses for the component: `name` or `owner:name`."""
        return self._use or self.name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate a named class as itself, and a kind by the class that its table names."""
        if hasattr(cls, "name"):
            return super().__get_pydantic_core_schema__(source, handler)
        return core_schema.with_info_plain_validator_function(cls._resolve)

    @classmethod
    def _resolve(cls, value: Any, info: core_schema.ValidationInfo[Any]) -> Component:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("table_type", "expected a table with `use`")
        settings = dict(value)
        if not isinstance(use := settings.pop("use", None), str):
            context = {"hint": f"sightx list-plugins {cls.kind} shows the names"}
            raise PydanticCustomError("missing-use", "must name a component", context)
        registry: Registry = info.context["registry"]
        found = registry.find(cls.kind, use)
        if not issubclass(found, cls):
            context = {"use": use, "expected": cls.__name__, "hint": ""}
            raise PydanticCustomError("unknown-name", "{use} is no {expected}", context)
        made = _checked(found, settings, registry)
        if use != found.name:
            made._use = use
        return made


def _checked(found: type[Component], settings: dict[str, Any], registry: Registry) -> Component:
    """Validate; whatever a plugin's own validators raise is that plugin's failure."""
    try:
        return validate_settings(found, settings, registry)
    except (ValidationError, SightXError, KeyboardInterrupt):
        raise
    except BaseException as error:
        cause = f"{type(error).__name__}: {error}"
        message = f"the {found.kind} {found.name!r} of {found.__module__} failed: {cause}"
        hint = "sightx --debug shows its traceback"
        raise PluginError(Problem("broken-plugin", message, hint)) from error


@dataclass(frozen=True)
class PathKind:
    """Mark a field as a path: relative to the spec, absolute, or a place such as `"@eyepacs"`.

    `suffixes`: only strings with one of these endings are paths. `urls`: strings with `://` are
    not paths. `counts`: the file name is part of the experiment id; otherwise a path is only a
    location on this machine.
    """

    suffixes: tuple[str, ...] = ()
    counts: bool = False
    urls: bool = False


Place = Annotated[Path, PathKind()]
Location = Annotated[str, PathKind(urls=True)]
File = Annotated[Path, PathKind(counts=True)]
Weights = Annotated[str, PathKind(suffixes=(".safetensors", ".pt", ".pth"), counts=True)]


class ParamGroup(Settings):
    """Weights with another learning rate; a weight joins the first group that it matches."""

    match: tuple[str, ...]
    """Names or patterns of parts and weights, such as `layer4` or `head.*`."""
    lr: PositiveFloat
    """Learning rate of the group."""


@dataclass(frozen=True)
class Traits:
    """Properties of a dataset that are known before any data is read.

    Attributes:
        classes: Names of the classes, in order; None if only the data tell.
        ordered: Whether the classes are grades of one scale.
        has_groups: Whether samples belong to groups, such as patients.
        has_split: Whether the table has a column `split`.
        majority: Fraction of the samples in the largest class, 0 to 1; None if unknown.
        handed: Whether classes distinguish left from right, so that mirroring changes a label.
        shape: (channels, height, width) of images that are preprocessed already, else None.
    """

    classes: tuple[str, ...] | None = None
    ordered: bool = False
    has_groups: bool = False
    has_split: bool = False
    majority: float | None = None
    handed: bool = False
    shape: tuple[int, int, int] | None = None


class Shape(NamedTuple):
    """The shape of an image; a height or width of None is known only from the image."""

    channels: int
    height: int | None
    width: int | None


def call_declared(function: Callable[..., Any], /, *arguments: Any, **offered: Any) -> Any:
    """Call a function with just those of the offered arguments that it declares."""
    declared = _declared(function)
    return function(*arguments, **{key: offered[key] for key in declared if key in offered})


def _declared(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters; examining one costs as much as a small layer."""
    plain = getattr(function, "__func__", function)
    if not isinstance(plain, FunctionType):
        return tuple(inspect.signature(function).parameters)
    names = _examined(plain)
    return names if plain is function else names[1:]


@lru_cache(maxsize=1024)
def _examined(function: FunctionType) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
