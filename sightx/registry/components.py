"""What every component is: a frozen, strictly validated set of settings with a name.

The fields are the keys of a table in a spec; the methods do or make the real thing. Heavy
imports live inside methods, so that naming a component costs nothing.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Settings(BaseModel):
    """Hold immutable settings; nothing is coerced, nothing unknown is accepted."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # most classes of a registry are never used by one command
        use_attribute_docstrings=True,
    )


class Component(Settings):
    """One thing that a spec can name: its fields are the keys of the table that names it.

    A subclass of a kind sets `name`, and raises `revision` whenever its results change.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    revision: ClassVar[int] = 1

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate a named class as itself, and a kind by the class that its table names."""
        if hasattr(cls, "name"):
            return handler(source)
        return core_schema.with_info_plain_validator_function(cls._resolve)

    @classmethod
    def _resolve(cls, value: Any, info: core_schema.ValidationInfo[Any]) -> Component:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("table_type", "expected a table with `use`")
        settings = dict(value)
        if not isinstance(use := settings.pop("use", None), str):
            raise PydanticCustomError("missing_use", "needs `use`, the name of a {kind}", _kind(cls))
        found: type[Component] = info.context["registry"].find(cls.kind, use)
        # Through JSON text: only so does pydantic's strict mode accept lists for tuples, and paths.
        return found.model_validate_json(json.dumps(settings, default=str), context=info.context)


def _kind(cls: type[Component]) -> dict[str, Any]:
    return {"kind": cls.kind}


@dataclass(frozen=True)
class Anchor:
    """Mark a field as a path, which a spec writes relative to itself or as a place, `"@name"`.

    With `suffixes`, only strings that end so are paths. A path with `counts` is part of what the
    experiment is (by its file name); one without is only where this machine keeps something.
    """

    suffixes: tuple[str, ...] = ()
    counts: bool = False


Place = Annotated[Path, Anchor()]
File = Annotated[Path, Anchor(counts=True)]
Weights = Annotated[str, Anchor(suffixes=(".safetensors", ".pt", ".pth"), counts=True)]


@dataclass(frozen=True)
class Traits:
    """Say what is known of a dataset before any of it is read.

    `classes` is None while only the data can tell; `ordered` means grades.
    """

    classes: tuple[str, ...] | None = None
    ordered: bool = False
    has_groups: bool = False
    has_split: bool = False


class Shape(NamedTuple):
    """Give the shape of an image; None is what only the image itself can tell."""

    channels: int
    height: int | None
    width: int | None


def call(function: Callable[..., Any], /, *arguments: Any, **offered: Any) -> Any:
    """Call a function with just those of the offered arguments that it declares."""
    declared = inspect.signature(function).parameters
    return function(*arguments, **{key: offered[key] for key in declared if key in offered})
