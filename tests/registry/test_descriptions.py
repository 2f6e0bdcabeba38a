from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from sightx.plugin import Settings
from sightx.registry import loading
from sightx.registry.descriptions import _docstrings, described
from sightx.registry.project import find_project


def test_every_field_of_every_component_has_what_pydantic_would_find() -> None:
    for entry in loading.load_registry(find_project(Path(__file__).parent)).entries():
        cls = entry.component
        assert all(info.description for info in cls.model_fields.values()), cls


class Ours(Settings):
    """One."""

    first: int = 1
    """The first.

    In two paragraphs."""
    second: int = 2
    third: int = Field(3, description="Said here.")
    """Not here."""


class Below(Ours):
    """Two."""

    second: int = 5
    """Now described."""


class Theirs(BaseModel):
    """The same, as pydantic reads it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    first: int = 1
    """The first.

    In two paragraphs."""
    second: int = 2
    third: int = Field(3, description="Said here.")
    """Not here."""


def said(cls: type[BaseModel]) -> dict[str, str | None]:
    return {key: info.description for key, info in cls.model_fields.items()}


def test_descriptions_are_those_of_pydantic() -> None:
    assert said(Ours) == said(Theirs)
    assert said(Below) == {**said(Theirs), "second": "Now described."}
    schema = Below.model_json_schema()["properties"]
    assert {key: schema[key].get("description") for key in schema} == said(Below)


def test_they_are_read_only_when_somebody_asks() -> None:
    class Fresh(Settings):
        """Not asked yet."""

        key: int = 1
        """The key."""

    assert Fresh.__pydantic_fields__["key"].description is None
    assert Fresh.model_fields["key"].description == "The key."


def test_a_class_without_source_has_fields_without_descriptions() -> None:
    made = type("Made", (Settings,), {"__annotations__": {"key": int}, "__module__": "nowhere"})
    assert list(described(made)) == ["key"]
    assert _docstrings(made) == {}
