"""docs/components.md has every component that ships, and every setting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sightx.registry.loading import load_registry
from sightx.registry.project import Project

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date_and_complete() -> None:
    command = [sys.executable, "-m", "sightx.cli.components_page"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    page = (ROOT / "docs" / "components.md").read_text(encoding="utf-8")
    assert page == done.stdout, "make generated"
    for entry in load_registry(Project(Path())).entries():
        if entry.plugin.is_builtin:
            _, _, rest = page.partition(f"\n## {entry.component.kind}\n")
            _, _, rest = rest.partition(f"\n### {entry.component.name}\n")
            section = rest.partition("\n##")[0]
            assert entry.summary in section
            assert all(f"| `{key}` |" in section for key in entry.component.model_fields)
