"""Call the command line as a shell does, in this process or in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sightx.cli.main import main


class Done(NamedTuple):
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()


@pytest.fixture
def sightx(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call `sightx` in this process."""

    def call(*words: str) -> Done:
        with pytest.raises(SystemExit) as caught:
            main(words)
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Done(caught.value.code, out, err)

    return call


@pytest.fixture
def validate(working_folder: Path, sightx: Callable[..., Done]) -> Callable[..., Done]:
    """Write `a.toml` and validate it."""

    def call(text: str | bytes, *words: str) -> Done:
        raw = text.encode() if isinstance(text, str) else text
        (working_folder / "a.toml").write_bytes(raw)
        return sightx("validate", "a.toml", *words)

    return call


@pytest.fixture
def child(working_folder: Path) -> Callable[..., Done]:
    """Call `sightx` in a child process."""

    def call(*words: str, user: int | None = None, **variables: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", "from sightx.cli.main import main; main()", *words],
            capture_output=True,
            text=True,
            check=False,
            user=user,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return call
