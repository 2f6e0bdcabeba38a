from __future__ import annotations

from pathlib import Path

from sightx.builtin.datasets.csv import CsvDataset, EyePacs
from sightx.builtin.preprocess import Grayscale
from sightx.registry import loading
from sightx.registry.project import Project
from sightx.testing.examples import _EXAMPLES, built_in


class Foreign(CsvDataset):
    """Have the name of another's."""


def test_only_what_ships_has_an_example_here(tmp_path: Path) -> None:
    assert built_in(CsvDataset) is not None
    assert built_in(Foreign) is None
    assert built_in(Grayscale) is None
    registry = loading.load_registry(Project(tmp_path))
    assert set(_EXAMPLES) < {(e.component.kind, e.component.name) for e in registry.entries()}


def test_an_example_is_data_that_can_be_read(tmp_path: Path) -> None:
    source = built_in(EyePacs)
    assert source is not None
    table = EyePacs(**source(tmp_path)).table()
    assert table.frame["group"].tolist() == ["10", "10", "13", "13"]
    assert table.read(3)[:2] == b"\xff\xd8"  # a JPEG
