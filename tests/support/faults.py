"""Processes that die, or are refused, at a chosen call of the system."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from sightx import ResourceError

CALLS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
DONE, REFUSED, DIED, BROKEN = 0, 7, 9, 70


class Fault:
    """Count what reaches the disk, and let the n-th call go wrong."""

    def __init__(self, at: int, how: str) -> None:
        self.at, self.how, self.count, self.what = at, how, 0, ""

    def due(self, what: str) -> bool:
        self.count += 1
        self.what = what if self.count == self.at else self.what
        return self.count == self.at

    def strike(self) -> None:
        if self.how.startswith("die"):
            os._exit(DIED)
        raise OSError(getattr(errno, self.how), os.strerror(getattr(errno, self.how)))

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            due = self.due(name)
            if due and self.how == "die after":
                with suppress(OSError):  # a folder that is there already
                    function(*args, **kwargs)
            return self.strike() if due else function(*args, **kwargs)

        return called

    def opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            opened = function(file, mode, *args, **kwargs)
            if "w" in mode and self.due("write"):

                def half(content: bytes) -> None:
                    opened.write(content[: len(content) // 2])
                    opened.flush()
                    self.strike()

                return Torn(opened, half)
            return opened

        return called


class Torn:
    """A file of which only half can be written."""

    def __init__(self, file: Any, write: Callable[[bytes], None]) -> None:
        self._file, self.write = file, write

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def in_child(action: Callable[[], object], at: int, how: str) -> int:
    """Do something in a forked process whose n-th call dies or is refused; return its status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    fault = Fault(at, how)
    for name in CALLS:
        setattr(os, name, fault.around(name, getattr(os, name)))
    io.open = fault.opened(io.open)
    status = BROKEN
    try:
        action()
        status = DONE if fault.count < at else 1  # 1: it happened, and was no obstacle
    except ResourceError:
        status = REFUSED
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)
