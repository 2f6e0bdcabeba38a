"""The packages in plugins/ as pip would install them, and a project that uses its modules."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture
def sightx_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Add to the path what pip writes for an editable install of sightx-timm."""
    source = PLUGINS / "sightx-timm"
    metadata = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    info = site / f"sightx_timm-{metadata['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {metadata['name']}\nVersion: {metadata['version']}\n"
    )
    points = metadata["entry-points"]["sightx"].items()
    lines = ["[sightx]", *(f"{name} = {value}" for name, value in points)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(source / "src")
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("sightx_timm", None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose specs find this project's plugins."""
    (tmp_path / "pyproject.toml").write_text(f'[tool.sightx]\nplugins = ["{PLUGINS}"]\n')
    return tmp_path
