from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_core import PydanticCustomError

from sightx.plugin import Component, Loss, Model
from sightx.registry.registry import Plugin, Registry

MINE = Plugin("mine", "/p/mine.py")


def named(base: type[Component], name: str, **more: object) -> type[Component]:
    space = {"__doc__": "What it is.\n\nMore.", "__module__": __name__, "name": name, **more}
    return type(name.title(), (base,), space)


def miss(registry: Registry, kind: str, use: str) -> tuple[str, str, str]:
    with pytest.raises(PydanticCustomError) as caught:
        registry.find(kind, use)
    error = caught.value
    return error.type, error.message(), (error.context or {})["hint"]


def test_a_component_is_found_by_kind_and_name_and_owner() -> None:
    registry, cls = Registry(), named(Model, "tiny")
    registry.add(Plugin("point", "m", "dist", "1"), [cls])
    assert registry.find("model", "tiny") is cls
    assert registry.find("model", "dist:tiny") is cls
    assert registry.find("model", "point:tiny") is cls
    assert miss(registry, "model", "other:tiny")[0] == "unknown-name"
    assert registry.entry(cls()).plugin.distribution == "dist"


def test_a_miss_says_the_nearest_and_all() -> None:
    registry = Registry()
    registry.add(MINE, [named(Model, "resnet"), named(Model, "simplenet"), named(Loss, "mse")])
    assert miss(registry, "model", "resnett") == (
        "unknown-name",
        "no model is called 'resnett'",
        "did you mean 'resnet'? known: resnet, simplenet",
    )
    assert miss(registry, "model", "mse")[1] == "no model is called 'mse', but a loss is"
    hint = "sightx list-plugins stopping shows the names"
    assert miss(registry, "stopping", "x") == ("unknown-name", "no stopping is called 'x'", hint)


class Plain(Component):
    """Of no kind."""

    name = "plain"


class Typed(Model):
    """A name that is a field."""

    name: str = "typed"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("component", "fault"),
    [
        (int, "<class 'int'> is no component class"),
        (3, "3 is no component class"),
        (Plain, "Plain is of no kind"),
        (Model, "Model needs a name of letters, digits, - and _, not None"),
        (named(Model, "a:b"), "A:B needs a name of letters, digits, - and _, not 'a:b'"),
        (named(Model, "3d"), "3D needs a name of letters, digits, - and _, not '3d'"),
        (named(Model, "mute", __doc__=None), "the model 'mute' has no docstring"),
        (named(Model, "odd", kind="loss"), "Odd is of no kind"),
        (Typed, "Typed makes 'name' a field: write it without a type"),
    ],
)
def test_what_is_no_proper_component_breaks_its_plugin(component: object, fault: str) -> None:
    registry = Registry()
    registry.add(MINE, [named(Model, "good"), component])  # type: ignore[list-item]
    assert [(plugin.state, plugin.error) for plugin in registry.plugins] == [("broken", fault)]
    assert registry.names("model") == []


@pytest.mark.filterwarnings("ignore:Field name")
def test_use_is_no_field() -> None:
    class Using(Model):
        """A field that specs need."""

        name = "using"
        use: int = 3  # type: ignore[assignment]

    registry = Registry()
    registry.add(MINE, [Using])
    assert registry.plugins[0].error == "Using makes 'use' a field: write it without a type"


def test_a_plugin_gives_a_name_once() -> None:
    registry = Registry()
    registry.add(MINE, [named(Model, "same"), named(Loss, "same"), named(Model, "same")])
    assert registry.plugins[0].error == "two components are the model 'same'"


def test_broken_plugins_are_warnings_and_keep_their_cause() -> None:
    registry, cause = Registry(), ValueError("two\nlines")
    registry.add(MINE.failed(cause))
    assert registry.broken[0].cause is cause
    assert [str(warning) for warning in registry.warnings()] == [
        "warning[broken-plugin] plugin mine at /p/mine.py is broken: ValueError: two lines; "
        "sightx list-plugins shows every plugin's state"
    ]
    code, message, _ = miss(registry, "model", "x")
    assert code == "broken-plugin"
    assert message == "no model is called 'x'; plugin mine is broken: ValueError: two lines"


def test_entries_come_by_kind_and_name_with_their_first_line() -> None:
    registry = Registry()
    registry.add(MINE, [named(Loss, "b"), named(Loss, "a"), named(Model, "z")])
    assert [entry.component.name for entry in registry.entries()] == ["z", "a", "b"]
    assert [entry.summary for entry in registry.entries("loss")] == ["What it is."] * 2
    described = registry.describe("model")
    assert [item["name"] for item in described["components"]] == ["z"]
    assert described["plugins"][0]["state"] == "loaded"


def test_an_entry_knows_the_line_of_its_class() -> None:
    registry = Registry()

    class Here(Model):
        """Here."""

        name = "here"

    registry.add(MINE, [Here])
    file, _, line = registry.entries()[0].place.rpartition(":")
    assert file == __file__
    assert "class Here" in Path(__file__).read_text().splitlines()[int(line) - 1]


def test_names_are_sorted_as_people_count() -> None:
    registry = Registry()
    names = ["b2", "a10", "a9", "a", "a9-x"]
    registry.add(MINE, [named(Model, name) for name in names])
    found = [entry.component.name for entry in registry.entries("model")]
    assert found == ["a", "a9", "a9-x", "a10", "b2"]


def test_a_record_says_everything_about_a_component() -> None:
    registry = Registry()
    registry.add(Plugin("point", "m", "dist", "1.5"), [named(Loss, "same", revision=3)])
    registry.add(MINE, [named(Loss, "same"), named(Loss, "own")])
    records = {item["plugin"]: item for item in registry.describe()["components"]}
    assert records["point"] == {
        "kind": "loss", "name": "same", "summary": "What it is.", "plugin": "point",
        "distribution": "dist", "version": "1.5", "revision": 3, "place": __name__,
        "clashes": [f"mine at {__name__}"],
    }  # fmt: skip
    by_name = {entry.component.name: entry for entry in registry.entries()}
    assert registry.clashes(by_name["own"]) == []


def test_commands_that_cannot_be_had_break_their_plugin_alone() -> None:
    registry = Registry()

    def ask(what: str) -> list[str]:
        assert what == "commands"
        return ["hello"]

    def exits(what: str) -> list[str]:
        raise SystemExit(3)

    registry.add(MINE, ask=ask)
    registry.add(Plugin("other", "m"), ask=exits)
    assert registry.commands() == [("hello", MINE)]
    assert [plugin.error for plugin in registry.broken] == ["SystemExit: 3"]
