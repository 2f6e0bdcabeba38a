"""The command line in tests."""

from __future__ import annotations

import pytest

from sightx.cli.main import main


def sightx_main(*arguments: str) -> int:
    """Call `sightx` in this process, and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)
