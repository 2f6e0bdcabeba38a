from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from sightx.io import toml
from sightx.plugin import File, Loss, ParamGroup, Settings, Weights
from sightx.registry.components import validate_settings
from sightx.registry.introspection import MARK, describe_fields, field_descriptions

TYPES: list[tuple[Any, str, Any]] = [
    (bool, "boolean", False),
    (str, "string", MARK),
    (int, "integer", 1),
    (PositiveInt, "integer > 0", 1),
    (NonNegativeInt, "integer >= 0", 1),
    (PositiveFloat, "number > 0", 1.0),
    (NegativeFloat, "number < 0", -1.0),
    (Annotated[float, Field(ge=0, le=0.5)], "number from 0 to 0.5", 0.5),
    (Annotated[float, Field(gt=2, lt=3)], "number > 2 and < 3", 2.5),
    (Annotated[float, Field(gt=0, lt=1)], "number > 0 and < 1", 0.5),
    (Annotated[float, Field(gt=5)], "number > 5", 6.0),
    (Annotated[float, Field(lt=-5)], "number < -5", -6.0),
    (Annotated[int, Field(gt=5, lt=9)], "integer > 5 and < 9", 6),
    (Annotated[int, Field(ge=10, multiple_of=8)], "integer >= 10", 16),
    (Literal["a", "b"], "one of a, b", "a"),
    (Literal[3, 5], "one of 3, 5", 3),
    (int | None, "integer", 1),
    (PositiveInt | tuple[PositiveInt, PositiveInt],
     "integer > 0 or array of 2 integers > 0", 1),
    (tuple[str, ...], "array of strings", [MARK]),
    (tuple[float, str], "array of number, string", [1.0, MARK]),
    (Annotated[tuple[float, ...], Field(min_length=2)], "array of numbers, at least 2 items",
     [1.0, 1.0]),
    (tuple[Literal["x", "y"], ...], "array of (one of x, y)", ["x"]),
    (Annotated[str, Field(min_length=1, max_length=9)],
     "string, at least 1 character, at most 9 characters", MARK),
    (Annotated[str, Field(pattern="^C")], "string matching ^C", MARK),
    (Path, "path", f"path/to/{MARK}"),
    (File, "path", f"path/to/{MARK}"),
    (Weights, "string, or a path ending in .safetensors, .pt, .pth, .ckpt, .bin, .pth.tar", MARK),
    (Mapping[str, int], "table of integers", {"key": 1}),
    (ParamGroup, "table of match, lr", {"match": [MARK], "lr": 1.0}),
    (tuple[ParamGroup, ...], "array of tables of match, lr", [{"match": [MARK], "lr": 1.0}]),
    (Loss, "component of kind loss", {"use": "some"}),
    (tuple[Loss, ...], "array of components of kind loss", [{"use": "some"}]),
    (Any, "any value", MARK),
]  # fmt: skip


class OneLoss:
    """A registry of one loss."""

    def find(self, kind: str, use: str) -> type[Loss]:
        assert (kind, use) == ("loss", "some")
        return Some


class Some(Loss):
    """A loss."""

    name = "some"


@pytest.mark.parametrize(("annotation", "words", "example"), TYPES, ids=[t[1] for t in TYPES])
def test_a_type_is_described_in_words_and_its_example_is_valid(
    annotation: Any, words: str, example: Any
) -> None:
    cls = type(
        "Case", (Settings,), {"__annotations__": {"key": annotation}, "__module__": __name__}
    )
    (field,) = describe_fields(cls, lambda kind: "some")
    assert field.type == words
    assert (field.example, type(field.example)) == (example, type(example))
    assert field.required
    again = tomllib.loads(f"key = {toml.dump_value(field.example)}")
    assert again == {"key": example}
    validate_settings(cls, again, OneLoss())


class Whole(Settings):
    """Settings with fields of many types."""

    later: int = 3
    """The second.

    In two lines."""
    chosen: str = Field(examples=["resnet18"])
    """An author's own example."""
    group: tuple[ParamGroup, ...] = (ParamGroup(match=("a",), lr=0.5),)
    nothing: Path | None = None
    place: Path = Path("here")
    created: tuple[int, ...] = Field(default_factory=lambda: (1, 2))


def test_fields_come_with_required_ones_first_and_defaults_as_toml_has_them() -> None:
    fields = {field.key: field for field in describe_fields(Whole)}
    assert next(iter(fields)) == "chosen"
    assert fields["chosen"].example == "resnet18"
    assert fields["later"].description == "The second. In two lines."
    assert fields["group"].default == [{"match": ["a"], "lr": 0.5}]
    assert fields["place"].default == "here"
    assert fields["nothing"].default is None
    assert fields["created"].default == [1, 2]


class Documented(Settings):
    """One."""

    first: int = 1
    """The first.

    In two paragraphs."""
    second: int = 2
    third: int = Field(3, description="From the field.")
    """Not from here."""


class Derived(Documented):
    """Two."""

    second: int = 5
    """Now described."""


class ByPydantic(BaseModel):
    """The same, as pydantic collects it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    first: int = 1
    """The first.

    In two paragraphs."""
    second: int = 2
    third: int = Field(3, description="From the field.")
    """Not from here."""


def test_descriptions_are_those_of_pydantic() -> None:
    expected = {key: info.description for key, info in ByPydantic.model_fields.items()}
    expected = {key: text for key, text in expected.items() if text}
    assert field_descriptions(Documented) == expected
    assert field_descriptions(Derived) == {**expected, "second": "Now described."}


def test_a_class_without_source_has_no_descriptions() -> None:
    cls = type("Made", (Settings,), {"__annotations__": {"key": int}, "__module__": "nowhere"})
    assert field_descriptions(cls) == {}
