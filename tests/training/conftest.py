from __future__ import annotations

import pytest

from sightx.data.dataset import PreparedDataset
from support.training import make_dataset


@pytest.fixture
def dataset() -> PreparedDataset:
    """90 learnable images of three uneven classes: 60 to train, 30 to validate."""
    return make_dataset()
