"""Distributions of plugins without pip."""

from __future__ import annotations

import tomllib
from pathlib import Path


def install_editable(package: Path, site: Path) -> None:
    """Write the dist-info that pip writes for an editable install of a package."""
    metadata = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    name, version = metadata["name"], metadata["version"]
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = metadata["entry-points"]["sightx"].items()
    lines = ["[sightx]", *(f"{name} = {value}" for name, value in points)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
