"""The packages in plugins/ as pip would install them, and a project that uses its modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.plugins import install_editable

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture
def sightx_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Add to the path what pip writes for an editable install of sightx-timm."""
    source, site = PLUGINS / "sightx-timm", tmp_path / "site"
    install_editable(source, site)
    monkeypatch.syspath_prepend(source / "src")
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("sightx_timm", None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose specs find this project's plugins."""
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{PLUGINS}"]\n')
    return tmp_path
