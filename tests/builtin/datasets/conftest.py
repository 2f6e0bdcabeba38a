from __future__ import annotations

import pytest
from PIL import Image


@pytest.fixture
def plant(tmp_path):
    """Write small images, and return their root."""

    def plant(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2)).save(tmp_path / path, "PNG")
        return tmp_path

    return plant
