# ruff: noqa: E501 - lines of output stand whole
from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveInt, ValidationError, field_validator

from sightx import PluginError, SpecError
from sightx.errors import Problem
from sightx.io.toml import Key, Position
from sightx.plugin import Settings
from sightx.registry.components import validate_settings
from sightx.registry.validation_errors import explain_errors, format_key, format_value, spec_failure


class Part(Settings):
    match: str
    """Names or patterns."""


class Whole(Settings):
    number: PositiveInt = 1
    share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    size: PositiveInt | tuple[PositiveInt, PositiveInt] = 1
    sizes: tuple[PositiveInt | Literal["auto"], ...] = ()
    word: Literal["on", "off"] = "on"
    pair: tuple[int, int] = (1, 2)
    few: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    code: Annotated[str, Field(pattern="^[a-z]+$")] = "a"
    """Small letters."""
    bare: Annotated[str, Field(pattern="^[a-z]+$")] = "a"
    table: Mapping[str, int] = {}
    part: tuple[Part, ...] = ()
    odd: int = 1

    @field_validator("odd")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value == 4:
            raise ValueError("4 is\n  even")
        if value == 2:
            raise AssertionError("must be odd")
        return value


def explain(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        validate_settings(Whole, data)

    def class_at(key: Key) -> type[Settings] | None:
        return {(): Whole, ("part", 0): Part, ("part", 1): Part}.get(key)

    problems = explain_errors(caught.value, lambda key: Position("f", len(key)), class_at)
    return [
        str(problem).removeprefix("f:1: error").removeprefix("f:2: error") for problem in problems
    ]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"number": 0}, "[invalid-value] number: 0: must be greater than 0"),
        ({"share": 1.5}, "[invalid-value] share: 1.5: must be less than 1"),
        ({"share": -1}, "[invalid-value] share: -1: must be greater than or equal to 0"),
        ({"word": "of"}, "[invalid-value] word: 'of': must be 'on' or 'off'"),
        ({"few": []}, "[invalid-value] few: []: must have at least 1 item, not 0"),
        ({"pair": [1, 2, 3]}, "[invalid-value] pair: [1, 2, 3]: must have at most 2 items, not 3"),
        ({"pair": [1]}, "[invalid-value] pair: [1]: must have at least 2 items"),
        ({"code": "A"}, "[invalid-value] code: 'A' does not fit; small letters"),
        ({"bare": "A"}, "[invalid-value] bare: 'A': must match pattern '^[a-z]+$'"),
        ({"size": "x"}, "[wrong-type] size: 'x' is a string, expected an integer or an array"),
        ({"size": 0}, "[invalid-value] size: 0: must be greater than 0"),
        ({"size": [1, 0]}, "[invalid-value] size.1: 0: must be greater than 0"),
        ({"sizes": [1, "x"]}, "[invalid-value] sizes.1: 'x': must be 'auto'"),
        ({"odd": 2}, "[invalid-value] odd: must be odd"),
        ({"odd": 4}, "[invalid-value] odd: 4 is even"),
        ({"table": {"k": "v"}}, "[wrong-type] table.k: 'v' is a string, expected an integer"),
        ({"part": {}}, "[wrong-type] part: is a table, expected an array of tables; write [[part]]"),
        ({"part": [{}]}, "[missing-key] part.0.match: is missing and has no default; names or patterns"),
        ({"part": [{"match": "a", "mach": 1}]}, "f:3: error[unknown-key] part.0.mach: unknown key; did you mean 'match'?"),
        ({"numbr": 1}, "[unknown-key] numbr: unknown key; did you mean 'number'?"),
        ({"part": [{"match": "a", "zzz": 1}]}, "f:3: error[unknown-key] part.0.zzz: unknown key; known: match"),
    ],
)  # fmt: skip
def test_each_error_is_one_line(data: dict[str, Any], line: str) -> None:
    assert explain(data) == [line]


def test_the_branches_of_a_union_are_one_problem() -> None:
    problems = explain({"size": True, "number": True})
    assert problems == [
        "[wrong-type] number: true is a boolean, expected an integer",
        "[wrong-type] size: true is a boolean, expected an integer or an array",
    ]


def test_problems_are_sorted_by_position_and_those_of_plugins_raise_plugin_errors() -> None:
    late, early = Problem("a", "late", file="f", line=10), Problem("b", "early", file="f", line=9)
    assert spec_failure([late, early]).problems == (early, late)
    assert isinstance(spec_failure([late]), SpecError)
    assert isinstance(spec_failure([late, Problem("name-clash", "x")]), PluginError)
    assert isinstance(spec_failure([Problem("broken-plugin", "x")]), PluginError)


def test_values_are_shown_as_in_toml_and_shortened() -> None:
    assert [format_value(value) for value in (True, 1.0, "a", None)] == [
        "true",
        "1.0",
        "'a'",
        "None",
    ]
    assert len(format_value("x" * 100)) == 60
    assert format_key(("augment", 0, "degrees")) == "augment.0.degrees"
