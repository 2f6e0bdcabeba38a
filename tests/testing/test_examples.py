from __future__ import annotations

from pathlib import Path

from sightx.builtin.datasets.csv import CsvDataset, EyePacs
from sightx.builtin.preprocess import Grayscale
from sightx.registry import loading
from sightx.registry.project import Project
from sightx.testing.examples import EXAMPLES, builtin_example


class Foreign(CsvDataset):
    """Have the name of a built-in dataset."""


def test_only_built_in_components_have_examples_here(tmp_path: Path) -> None:
    assert builtin_example(CsvDataset) is not None
    assert builtin_example(Foreign) is None
    assert builtin_example(Grayscale) is None
    registry = loading.load_registry(Project(tmp_path))
    assert set(EXAMPLES) < {(e.component.kind, e.component.name) for e in registry.entries()}


def test_the_data_of_an_example_can_be_read(tmp_path: Path) -> None:
    source = builtin_example(EyePacs)
    assert source is not None
    table = EyePacs(**source(tmp_path)).table()
    assert table.frame["group"].tolist() == ["10", "10", "13", "13"]
    assert table.read(3)[:2] == b"\xff\xd8"  # a JPEG
