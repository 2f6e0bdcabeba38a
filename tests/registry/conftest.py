"""Distributions and projects as strangers would write them, on this machine's path for a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COMPONENT = '''
from sightx import {kind}, hookimpl

class {title}({kind}):
    """{line}"""

    name = "{name}"

@hookimpl
def sightx_components():
    return [{title}]
'''


@pytest.fixture
def component() -> Callable[..., str]:
    """Source of a module with one component."""

    def write(name: str, kind: str = "Model", line: str = "A stranger's.") -> str:
        title = "".join(part.title() for part in name.split("-"))
        return COMPONENT.format(name=name, kind=kind, title=title, line=line)

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Lay a module and its dist-info into a folder of its own, first on the path."""
    before = set(sys.modules)

    def write(distribution: str, code: str, *, point: str = "", version: str = "1.0") -> Path:
        module = f"sightx_test_{distribution.replace('-', '_')}"
        folder = tmp_path / "site" / distribution
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[sightx]\n{point or distribution} = {module}\n")
        monkeypatch.syspath_prepend(folder)
        return folder

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("sightx_test_"):
            del sys.modules[name]
