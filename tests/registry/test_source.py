from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from sightx.registry import loading, source
from sightx.registry.project import Project


def test_every_built_in_is_where_inspect_says_it_is() -> None:
    for entry in loading.load_registry(Project(Path("/"))).entries():
        cls = entry.component
        expected = f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
        assert source.source_location(cls) == expected


TWICE = """
import sys

if sys.version_info < (3, 0):
    class Twice:
        pass
else:
    class Twice:
        "The real one."
"""


def test_a_class_that_stands_twice_is_left_to_inspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sightx_test_source.py").write_text(TWICE)
    monkeypatch.syspath_prepend(tmp_path)
    import sightx_test_source  # type: ignore[import-not-found]

    cls = sightx_test_source.Twice
    assert (
        source.source_location(cls)
        == f"{sightx_test_source.__file__}:{inspect.getsourcelines(cls)[1]}"
    )
    del sys.modules["sightx_test_source"]


def test_a_class_without_source_is_known_by_its_module() -> None:
    assert source.source_location(type("Made", (), {"__module__": __name__})) == __name__
    assert source.source_location(int) == "builtins"
