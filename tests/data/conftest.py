"""A dataset of 48 images, and a way to prepare it."""

from __future__ import annotations

import pytest

from sightx.builtin.datasets.csv import CsvDataset
from sightx.builtin.splits import Given
from support.experiments import prepared


@pytest.fixture
def labels(folders):
    """Describe `folders` by a CSV of 48 rows; row n is on line n + 2."""
    paths = sorted(path.relative_to(folders).as_posix() for path in folders.rglob("*.png"))
    rows = [f"{path},{path.split('/')[1]},{path.split('/')[0]}\n" for path in paths]
    (folders / "labels.csv").write_text("image,label,split\n" + "".join(rows))
    return paths


@pytest.fixture
def get(folders, tmp_path):
    """Load and prepare `folders` with some settings of its dataset."""

    def get(split=None, allow=(), **settings):
        dataset = CsvDataset(root=folders, split="split", **settings)
        return prepared(dataset, tmp_path / "bad.csv", split or Given(), allow=allow)

    return get
