"""The command line in tests."""

from __future__ import annotations

import signal

import pytest

from sightx.cli.main import main


def sightx_main(*arguments: str) -> int:
    """Call `sightx` in this process, and return its exit code."""
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
    finally:
        signal.signal(signal.SIGINT, before)  # the command leaves the one of a process that ends
    return int(caught.value.code or 0)
