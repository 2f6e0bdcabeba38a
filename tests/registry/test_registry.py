from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from sightx.plugin import Component, Loss, Model
from sightx.registry import loading
from sightx.registry.components import UnknownComponentError
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry, source_location

MINE = Plugin("mine", "/p/mine.py")


def named(base: type[Component], name: str, **more: object) -> type[Component]:
    space = {"__doc__": "What it is.\n\nMore.", "__module__": __name__, "name": name, **more}
    return type(name.title(), (base,), space)


def miss(registry: Registry, kind: str, use: str) -> tuple[str, str, str]:
    with pytest.raises(UnknownComponentError) as caught:
        registry.find(kind, use)
    problem = caught.value.problem
    return problem.code, problem.message, problem.hint


def test_a_component_is_found_by_kind_and_name_and_owner() -> None:
    registry, cls = Registry(), named(Model, "tiny")
    registry.add(Plugin("point", "m", "dist", "1"), [cls])
    assert registry.find("model", "tiny") is cls
    assert registry.find("model", "dist:tiny") is cls
    assert registry.find("model", "point:tiny") is cls
    assert miss(registry, "model", "other:tiny")[0] == "unknown-name"
    assert registry.find_entry("model", "tiny").plugin.distribution == "dist"


def test_an_unknown_name_suggests_the_closest_and_lists_all() -> None:
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


def test_entries_are_sorted_by_kind_and_name() -> None:
    registry = Registry()
    registry.add(MINE, [named(Loss, "b"), named(Loss, "a"), named(Model, "z")])
    assert [entry.component.name for entry in registry.entries()] == ["z", "a", "b"]
    assert [entry.summary for entry in registry.entries("loss")] == ["What it is."] * 2
    described = registry.describe("model")
    assert [item["name"] for item in described["components"]] == ["z"]
    assert described["plugins"][0]["state"] == "loaded"


def test_an_entry_has_the_file_and_line_of_its_class() -> None:
    registry = Registry()

    class Here(Model):
        """Here."""

        name = "here"

    registry.add(MINE, [Here])
    file, _, line = registry.entries()[0].place.rpartition(":")
    assert file == __file__
    assert "class Here" in Path(__file__).read_text().splitlines()[int(line) - 1]


def test_numbers_in_names_are_sorted_by_value() -> None:
    registry = Registry()
    names = ["b2", "a10", "a9", "a", "a9-x"]
    registry.add(MINE, [named(Model, name) for name in names])
    sorted_names = [entry.component.name for entry in registry.entries("model")]
    assert sorted_names == ["a", "a9", "a9-x", "a10", "b2"]


def test_a_component_is_described_with_its_plugin_and_clashes() -> None:
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


def test_a_plugin_whose_commands_fail_is_broken_and_others_are_not() -> None:
    registry = Registry()

    def exits() -> list[str]:
        raise SystemExit(3)

    registry.add(MINE, commands=lambda: ["hello"])
    registry.add(Plugin("other", "m"), commands=exits)
    assert registry.commands() == [("hello", MINE)]
    assert [plugin.error for plugin in registry.broken] == ["SystemExit: 3"]


def test_the_location_of_every_built_in_is_that_of_inspect() -> None:
    for entry in loading.load_registry(Project(Path("/"))).entries():
        cls = entry.component
        expected = f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
        assert source_location(cls) == expected


TWICE = """
import sys

if sys.version_info < (3, 0):
    class Twice:
        pass
else:
    class Twice:
        "The real one."
"""


def test_a_class_that_is_defined_twice_is_located_by_inspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sightx_test_source.py").write_text(TWICE)
    monkeypatch.syspath_prepend(tmp_path)
    import sightx_test_source  # type: ignore[import-not-found]

    cls = sightx_test_source.Twice
    assert source_location(cls) == f"{sightx_test_source.__file__}:{inspect.getsourcelines(cls)[1]}"
    del sys.modules["sightx_test_source"]


def test_the_location_of_a_class_without_source_is_its_module() -> None:
    assert source_location(type("Made", (), {"__module__": __name__})) == __name__
    assert source_location(int) == "builtins"
