"""What SightX logs, on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sightx.io.streams import TolerantStream

_LOGGER = logging.getLogger("sightx")


class _StderrHandler(logging.Handler):
    """Print each message to standard error, but only once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message, unless it was printed before."""
        line = record.getMessage()
        if line not in self._shown:
            self._shown.add(line)
            print(line, file=TolerantStream(sys.stderr))


@contextmanager
def logged_to_stderr(*, is_main_process: bool = True) -> Iterator[None]:
    """Print what SightX logs in the body, from level INFO; only the main process prints."""
    handler = _StderrHandler() if is_main_process else logging.NullHandler()
    level, propagate = _LOGGER.level, _LOGGER.propagate
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = False  # a plugin may have set up a handler: print each line only once
    _LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.propagate = propagate
        _LOGGER.setLevel(level)


def is_set_up() -> bool:
    """Return whether a program has decided where messages of SightX go."""
    return _LOGGER.hasHandlers()
