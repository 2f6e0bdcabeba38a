from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from sightx.io import toml
from sightx.io.toml import Position
from sightx.plugin import File, Model, Place, Settings
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry
from sightx.spec.paths import iter_tables, resolve_paths, stringify_dates


class Inner(Model):
    """Holds paths."""

    name = "inner"

    one: Place | None = None
    many: tuple[File, ...] = ()
    word: str = ""


class Outer(Model):
    """Holds components."""

    name = "outer"

    inner: Model
    more: tuple[Model, ...] = ()


class Root(Settings):
    model: Model
    place: Place = Path("x")


TEXT = """\
place = "p"
[model]
use = "outer"
[model.inner]
use = "inner"
one = "a/b"
many = ["@here/x", "@gone/y", "/abs", 3]
word = "w"
weights = "w.pt"
[[model.more]]
use = "inner"
weights = "imagenet"
[[model.more]]
use = "missing"
[[model.more]]
use = "inner"
one = 3
"""


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(Plugin("test", "here"), [Inner, Outer])
    return registry


def test_every_table_is_yielded_with_its_class(registry: Registry) -> None:
    spec = toml.parse(TEXT.encode(), "a.toml")
    tables = {key: cls for key, cls, _ in iter_tables(Root, spec.data, registry)}
    assert tables == {
        (): Root, ("model",): Outer, ("model", "inner"): Inner,
        ("model", "more", 0): Inner, ("model", "more", 2): Inner,
    }  # fmt: skip


def test_paths_in_all_tables_become_absolute(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = toml.parse(TEXT.encode(), "specs/a.toml")
    spec.positions[("place",)] = Position("--set place=p")
    resolve_paths(Root, spec, registry, Project(tmp_path, places={"here": Path("/data/here")}))
    model = spec.data["model"]
    assert spec.data["place"] == str(tmp_path / "p")
    assert model["inner"]["one"] == str(tmp_path / "specs/a/b")
    assert model["inner"]["many"] == ["/data/here/x", "@gone/y", "/abs", 3]
    assert model["inner"]["word"] == "w"
    assert model["inner"]["weights"] == str(tmp_path / "specs/w.pt")
    assert model["more"][0]["weights"] == "imagenet"
    assert model["more"][2]["one"] == 3


def test_dates_become_strings() -> None:
    data = {"a": datetime.date(2026, 1, 2), "b": [{"c": datetime.time(7)}, 3], "d": "x"}
    assert list(stringify_dates(data)) == [(("a",), "2026-01-02"), (("b", 0, "c"), "07:00:00")]
    assert data == {"a": "2026-01-02", "b": [{"c": "07:00:00"}, 3], "d": "x"}
    assert list(stringify_dates(data)) == []
