from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, PositiveInt, ValidationError

from sightx.plugin import Component, File, Loss, Model, Optimizer, Place, Settings, to_plain
from sightx.registry.components import (
    PathKind,
    UnknownComponentError,
    call_declared,
    path_kind,
    table_class,
    validate_component,
    validate_settings,
)
from sightx.registry.registry import Plugin, Registry


class Inner(Model):
    """Inside."""

    name = "inner"

    width: PositiveInt = 3
    rates: tuple[float, ...] = ()
    file: Path = Path("x")
    deep: bool = False
    title: str = ""
    size: PositiveInt | tuple[PositiveInt, PositiveInt] = 1


class Special(Inner):
    """A narrower kind of inner."""

    name = "special"


class Outer(Model):
    """Outside."""

    name = "outer"

    inner: Model
    more: tuple[Model, ...] = ()
    loss: Loss | None = None


class Picky(Model):
    """Accepts only subclasses of Family, a class without a name."""

    name = "picky"

    inner: Family | None = None


class Family(Model):
    """A base class that is not a component itself."""


class Member(Family):
    """A subclass of Family."""

    name = "member"


class Root(Settings):
    model: Model


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    Picky.model_rebuild(_types_namespace={"Family": Family})
    registry.add(Plugin("test", "here"), [Inner, Special, Outer, Picky, Member])
    return registry


def details(table: dict[str, Any], registry: Registry) -> Iterator[tuple[tuple[Any, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        validate_settings(Root, {"model": table}, registry)
    for detail in caught.value.errors():
        yield tuple(detail["loc"]), detail["type"]


def test_settings_are_validated_as_json(registry: Registry) -> None:
    table = {"use": "inner", "width": 5, "rates": [1, 2.5], "file": "a/b", "size": [3, 4]}
    model = validate_settings(Root, {"model": table}, registry).model
    assert model == Inner(width=5, rates=(1.0, 2.5), file=Path("a/b"), size=(3, 4))
    assert type(model) is Inner
    assert isinstance(model.rates[0], float)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("width", True, "int_type"), ("width", "3", "int_type"), ("width", 3.0, "int_type"),
        ("width", 0, "greater_than"), ("rates", 3, "tuple_type"), ("rates", "ab", "tuple_type"),
        ("deep", 1, "bool_type"), ("deep", "true", "bool_type"), ("title", 3, "string_type"),
        ("file", 3, "string_type"), ("unknown", 3, "extra_forbidden"),
    ],
)  # fmt: skip
def test_values_are_not_coerced_and_unknown_keys_are_refused(
    registry: Registry, key: str, value: Any, kind: str
) -> None:
    assert list(details({"use": "inner", key: value}, registry)) == [(("model", key), kind)]


def test_a_number_that_is_not_finite_is_refused(registry: Registry) -> None:
    errors = list(details({"use": "inner", "rates": [1.0, float("nan"), float("inf")]}, registry))
    assert errors == [
        (("model", "rates", 1), "finite_number"),
        (("model", "rates", 2), "finite_number"),
    ]


def test_errors_in_nested_components_have_the_full_path(registry: Registry) -> None:
    good = {"use": "outer", "inner": {"use": "inner", "width": 2}, "more": [{"use": "special"}]}
    model = validate_settings(Root, {"model": good}, registry).model
    assert model == Outer(inner=Inner(width=2), more=(Special(),))
    bad = {
        "use": "outer",
        "inner": {"use": "outer", "inner": {"use": "inner", "width": 0}},
        "more": [{"use": "inner"}, {"use": "missing"}, {}, 3],
        "loss": {"use": "inner"},
    }
    assert list(details(bad, registry)) == [
        (("model", "inner", "inner", "width"), "greater_than"),
        (("model", "more", 1), "unknown-name"),
        (("model", "more", 2), "missing-use"),
        (("model", "more", 3), "table_type"),
        (("model", "loss"), "unknown-name"),
    ]


def test_a_field_of_a_narrower_class_accepts_only_its_subclasses(registry: Registry) -> None:
    good = validate_settings(
        Root, {"model": {"use": "picky", "inner": {"use": "member"}}}, registry
    )
    assert good.model == Picky(inner=Member())
    errors = list(details({"use": "picky", "inner": {"use": "inner"}}, registry))
    assert errors == [(("model", "inner"), "unknown-name")]


def test_a_component_is_immutable_hashable_and_can_be_pickled(registry: Registry) -> None:
    model = validate_settings(
        Root, {"model": {"use": "test:inner", "rates": [1.0]}}, registry
    ).model
    with pytest.raises(ValidationError, match="frozen"):
        model.width = 4  # type: ignore[attr-defined]
    assert len({Inner(rates=(1.0,)), Inner(rates=(1.0,)), Inner()}) == 2
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert again.use == "test:inner"


def test_a_component_keeps_the_use_of_its_table(registry: Registry) -> None:
    assert Inner().use == "inner"
    assert validate_settings(Root, {"model": {"use": "inner"}}, registry).model == Inner()
    assert (
        validate_settings(Root, {"model": {"use": "test:inner"}}, registry).model.use
        == "test:inner"
    )


def test_a_component_object_is_accepted_as_a_value() -> None:
    assert Outer(inner=Inner(width=7)).inner == Inner(width=7)
    with pytest.raises(ValidationError):
        Outer(inner=3)  # type: ignore[arg-type]


def test_the_class_of_a_table_is_taken_from_its_annotation() -> None:
    assert table_class(Model) is Model
    assert table_class(tuple[Loss, ...] | None) is Loss
    assert table_class(Annotated[tuple[Optimizer, ...], Field(min_length=1)]) is Optimizer
    assert table_class(Place) is None
    assert table_class(dict[str, int]) is None


def test_call_declared_passes_only_declared_arguments() -> None:
    def two(a: int, *, seed: int) -> tuple[int, int]:
        return a, seed

    assert call_declared(two, 1, seed=2, size=3) == (1, 2)
    assert call_declared(lambda: "none", seed=2) == "none"
    with pytest.raises(TypeError, match="seed"):
        call_declared(two, 1, size=3)


def test_call_declared_accepts_methods_functions_and_other_callables() -> None:
    class Thing:
        def method(self, seed: int) -> int:
            return seed

        @classmethod
        def of_class(cls, seed: int) -> tuple[str, int]:
            return cls.__name__, seed

        @staticmethod
        def static(seed: int) -> int:
            return seed

        def __call__(self, size: int) -> int:
            return size

        __hash__ = None  # type: ignore[assignment]

    thing = Thing()
    for _ in range(2):  # the second time from the cache
        assert call_declared(thing.method, seed=2, size=3) == 2
        assert call_declared(Thing.method, thing, seed=2, size=3) == 2
        assert call_declared(thing.of_class, seed=2, size=3) == ("Thing", 2)
        assert call_declared(thing.static, seed=2, size=3) == 2
        assert call_declared(thing, seed=2, size=3) == 3
        assert call_declared(partial(thing.method, 5), size=3) == 5


def test_kinds_are_components_without_a_name() -> None:
    assert issubclass(Model, Component)
    assert not hasattr(Model, "name")


class WithPaths(Model):
    """Holds paths."""

    name = "with-paths"

    one: Place | None = None
    many: tuple[File, ...] = ()
    word: str = ""


def test_the_mark_of_a_path_is_taken_from_its_annotation() -> None:
    kinds = {key: path_kind(field) for key, field in WithPaths.model_fields.items()}
    assert {key: kind and kind.part_of_identity for key, kind in kinds.items()} == {
        "weights": True, "head": None, "trainable": None, "one": False, "many": True, "word": None,
    }  # fmt: skip


def test_settings_become_plain_data(registry: Registry) -> None:
    table = {"use": "test:inner", "rates": [1.5], "size": [3, 4]}
    outer = Outer(inner=validate_component(Model, table, registry), more=(Special(),))
    plain = to_plain(outer)
    assert plain["use"] == "outer"
    assert plain["inner"]["use"] == "test:inner"
    assert plain["inner"]["file"] == "x"
    assert (plain["inner"]["rates"], plain["inner"]["size"]) == ([1.5], [3, 4])
    assert plain["more"][0]["use"] == "special"
    assert "loss" not in plain
    assert to_plain(outer, identity=True)["inner"]["use"] == "inner"
    assert to_plain({"a": (1, None, {2}), 3: Path("b")}) == {"a": [1, None, [2]], "3": "b"}


def test_plain_data_may_have_other_values_for_paths() -> None:
    def convert(value: Any, kind: PathKind) -> Any:
        return len(value) if kind.part_of_identity else None

    model = WithPaths(one=Path("a"), many=(Path("b"), Path("c")), weights="d.pt")
    plain = to_plain(model, convert_path=convert)
    assert plain == {"use": "with-paths", "many": 2, "weights": 4, "trainable": [], "word": ""}


def test_a_component_that_a_registry_does_not_have_is_a_lookup_error() -> None:
    with pytest.raises(UnknownComponentError) as caught:
        Registry().find("model", "nothing")
    assert isinstance(caught.value, LookupError)
    assert str(caught.value) == caught.value.problem.message == "no model is called 'nothing'"
