"""Small specs, written to a temporary folder and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sightx import Experiment, SightXError, load

MINIMAL = """\
name = "a"
[dataset]
use = "synthetic-fundus"
[model]
use = "simplenet"
"""


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of specs, which is also the working directory."""
    (tmp_path / "specs").mkdir()
    monkeypatch.chdir(tmp_path / "specs")
    return tmp_path / "specs"


@pytest.fixture
def resolve(working_folder: Path) -> Callable[..., Experiment]:
    """Write `a.toml`, by default a minimal one, and load it."""

    def call(text: str = MINIMAL, *overrides: str, name: str = "a.toml") -> Experiment:
        (working_folder / name).write_text(text)
        return load(name, overrides)

    return call


@pytest.fixture
def failures(resolve: Callable[..., Experiment]) -> Callable[..., list[str]]:
    """Load a spec, and return the lines of the error that it raises."""

    def call(text: str, *overrides: str) -> list[str]:
        with pytest.raises(SightXError) as caught:
            resolve(text, *overrides)
        return str(caught.value).splitlines()

    return call
