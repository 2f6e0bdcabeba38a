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
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    PositiveFloat,
    PrivateAttr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sightx.errors import PluginError, Problem, SightXError


class Settings(BaseModel):
    """Immutable settings; values are not coerced, and unknown keys are an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # most classes of a registry are never used by one command
    )


SettingsType = TypeVar("SettingsType", bound=Settings)
ComponentType = TypeVar("ComponentType", bound="Component")


class ComponentLookup(Protocol):
    """Finds the class of a component by its kind and the name that a spec uses for it."""

    def find(self, kind: str, use: str) -> type[Component]:
        """Return the class. Raises UnknownComponentError."""
        ...


class UnknownComponentError(LookupError):
    """No component, or more than one, has the requested kind and name.

    The code of `problem` is unknown-name, name-clash, or broken-plugin if a plugin that failed may
    provide the component.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def validate_settings(
    cls: type[SettingsType], data: Mapping[str, Any], registry: ComponentLookup | None = None
) -> SettingsType:
    """Return settings from data as TOML or JSON holds them; components come from the registry.

    The data are validated as JSON text, because only then pydantic's strict mode accepts arrays for
    tuples and strings for paths. Raises pydantic's ValidationError.
    """
    return cls.model_validate_json(json.dumps(data, default=str), context={"registry": registry})


def validate_component(
    kind: type[ComponentType], table: Mapping[str, Any], registry: ComponentLookup
) -> ComponentType:
    """Return the component that the `use` of a table names, with the table's other keys as fields.

    Raises:
        ValueError: pydantic's ValidationError for a wrong field, or PydanticCustomError if `use`
            is missing or names no component of this kind.
        PluginError: A validator of the component failed in another way.
    """
    settings = dict(table)
    use = settings.pop("use", None)
    if not isinstance(use, str):
        hint = f"sightx list-plugins {kind.kind} shows the names"
        raise PydanticCustomError("missing-use", "must name a component", {"hint": hint})
    try:
        cls = registry.find(kind.kind, use)
    except UnknownComponentError as error:
        raise _pydantic_error(error.problem) from None
    if not issubclass(cls, kind):
        raise _pydantic_error(Problem("unknown-name", f"{use} is not a {kind.__name__}"))
    component = _validate_fields(cls, settings, registry)
    if use != cls.name:
        component._use = use
    return component


def _pydantic_error(problem: Problem) -> PydanticCustomError:
    context = {"message": problem.message, "hint": problem.hint}
    return PydanticCustomError(problem.code, "{message}", context)


def _validate_fields(
    cls: type[ComponentType], settings: Mapping[str, Any], registry: ComponentLookup
) -> ComponentType:
    """Validate the fields; an unexpected exception of a plugin's validator is its failure."""
    try:
        return validate_settings(cls, settings, registry)
    except (ValidationError, SightXError, KeyboardInterrupt):
        raise
    except BaseException as error:
        cause = f"{type(error).__name__}: {error}"
        message = f"the {cls.kind} {cls.name!r} of {cls.__module__} failed: {cause}"
        hint = "add --debug to see its traceback"
        raise PluginError(Problem("broken-plugin", message, hint)) from error


def table_class(annotation: Any) -> type[Settings] | None:
    """Return the class of the table, or of the array of tables, that a field holds, else None."""
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
    other_names: ClassVar[tuple[str, ...]] = ()  # what other libraries call it, for hints
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
            return handler(source)
        return core_schema.with_info_plain_validator_function(cls._validate)

    @classmethod
    def _validate(cls, value: Any, info: core_schema.ValidationInfo[Any]) -> Component:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("table_type", "expected a table with `use`")
        return validate_component(cls, value, info.context["registry"])


@dataclass(frozen=True)
class PathKind:
    """Mark a field as a path: relative to the spec, absolute, or a place such as `"@eyepacs"`.

    Attributes:
        suffixes: If any are given, only strings that end in one of them are paths.
        part_of_identity: Whether the file name is part of the experiment id. Otherwise the path
            is only a location on this machine.
        urls: Whether strings with `://` are URLs and not paths.
    """

    suffixes: tuple[str, ...] = ()
    part_of_identity: bool = False
    urls: bool = False


Place = Annotated[Path, PathKind()]
Location = Annotated[str, PathKind(urls=True)]
File = Annotated[Path, PathKind(part_of_identity=True)]
WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pth.tar")
"""Endings of files of weights."""
Weights = Annotated[str, PathKind(suffixes=WEIGHTS_SUFFIXES, part_of_identity=True)]


def path_kind(field: FieldInfo) -> PathKind | None:
    """Return the mark of a field that holds a path or an array of paths, else None."""
    marks = [*field.metadata, *_annotation_marks(field.annotation)]
    return next((mark for mark in marks if isinstance(mark, PathKind)), None)


def _annotation_marks(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return list(annotation.__metadata__)
    return [mark for part in get_args(annotation) for mark in _annotation_marks(part)]


def to_plain(
    value: Any,
    *,
    identity: bool = False,
    convert_path: Callable[[Any, PathKind], Any] = lambda value, kind: value,
) -> Any:
    """Return settings, or any value of a field, as plain data that TOML and JSON can hold.

    Args:
        value: Settings become dictionaries, components with a key `use`; tuples become lists,
            sets sorted lists; paths and values of other types strings. Keys that are None are left
            out.
        identity: Leave out who provides a component: `use` is then its plain name.
        convert_path: Called with the value and the mark of every field that holds paths; returns
            the value to use instead, or None to leave the field out.
    """

    def plain(item: Any) -> Any:
        return to_plain(item, identity=identity, convert_path=convert_path)

    if isinstance(value, BaseModel):
        table: dict[str, Any] = {}
        if isinstance(value, Component):
            table["use"] = value.name if identity else value.use
        for key, field in type(value).model_fields.items():
            item = getattr(value, key)
            if item is not None and (kind := path_kind(field)):
                item = convert_path(item, kind)
            if item is not None:
                table[key] = plain(item)
        return table
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (frozenset, set)):  # whose order differs from process to process
        return sorted(map(plain, value), key=json.dumps)
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


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
        majority_share: Fraction of the samples in the largest class, 0 to 1; None if unknown.
        handed: Whether classes distinguish left from right, so that mirroring changes a label.
        shape: (channels, height, width) of images that are preprocessed already, else None.
        columns: Names of extra columns of the table, such as the camera or the site.
    """

    classes: tuple[str, ...] | None = None
    ordered: bool = False
    has_groups: bool = False
    has_split: bool = False
    majority_share: float | None = None
    handed: bool = False
    shape: tuple[int, int, int] | None = None
    columns: tuple[str, ...] = ()


class Shape(NamedTuple):
    """The shape of an image; a height or width of None is known only from the image."""

    channels: int
    height: int | None
    width: int | None


def call_declared(function: Callable[..., Any], /, *arguments: Any, **offered: Any) -> Any:
    """Call a function with only those of the offered keyword arguments that it declares.

    If a method of a component raises, `failed_component` knows which component it was.
    """
    plain = getattr(function, "__func__", function)  # of a method; `self` is never offered
    cached = isinstance(plain, FunctionType)
    declared = _parameters(plain) if cached else _parameters.__wrapped__(function)
    try:
        return function(*arguments, **{key: offered[key] for key in declared if key in offered})
    except BaseException as error:
        remember_component(error, getattr(function, "__self__", None))
        raise


def declares(function: Callable[..., Any], name: str) -> bool:
    """Return whether a method declares an argument."""
    return name in _parameters(getattr(function, "__func__", function))


def remember_component(error: BaseException, component: object) -> None:
    """Note on an exception which component raised it, unless another one inside of it did."""
    if isinstance(component, Component) and failed_component(error) is None:
        error.__dict__["_sightx_component"] = component


def failed_component(error: BaseException) -> Component | None:
    """Return the component that was called when an exception was raised, if one was."""
    component = error.__dict__.get("_sightx_component")
    return component if isinstance(component, Component) else None


@lru_cache(maxsize=1024)  # inspecting a signature costs as much as a small layer
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters."""
    return tuple(inspect.signature(function).parameters)
