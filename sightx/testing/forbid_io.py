"""Detect files and network connections that a call opens."""

from __future__ import annotations

import os
import site
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

_OPEN_FUNCTIONS = (
    "builtins.open", "io.open", "os.open", "safetensors.safe_open", "safetensors.torch.safe_open",
)  # fmt: skip
_CONNECT_FUNCTIONS = ("socket.getaddrinfo", "socket.socket.connect", "socket.socket.connect_ex")


@contextmanager
def forbid_io(cls: type) -> Iterator[list[str]]:
    """Let this thread open no files and no connections; yield a list of its attempts.

    Files of the Python installation and of the class's package may be read. An attempt raises
    PermissionError, and is in the list even if the caller catches that. Functions are replaced in
    their modules during the call: a module that has imported its own `open` is not detected.
    """
    import safetensors.torch  # noqa: F401  Otherwise a first import would keep the replacement.

    thread, attempts, allowed = threading.get_ident(), list[str](), _allowed_folders(cls)

    def describe_file(path: object) -> str:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return ""  # A file descriptor: the file is open already.
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  A Path costs more.
        return "" if name.startswith(allowed) or name.endswith(".py") else f"opened {name}"

    def guard(name: str, describe: Callable[[object], str]) -> Any:
        function = resolve_name(name)

        def guarded(*args: Any, **kwargs: Any) -> Any:
            target = next(iter([*args, *kwargs.values()]), None)
            if threading.get_ident() == thread and (attempt := describe(target)):
                attempts.append(attempt)
                raise PermissionError(attempt)
            return function(*args, **kwargs)

        return patch(name, guarded)

    with ExitStack() as patches:
        for name in _OPEN_FUNCTIONS:
            patches.enter_context(guard(name, describe_file))
        for name in _CONNECT_FUNCTIONS:
            patches.enter_context(guard(name, lambda _: "opened a connection"))
        yield attempts


def _allowed_folders(cls: type) -> tuple[str, ...]:
    """Return the folders of Python, of the class's package and of the kernel, ending in a slash."""
    package = sys.modules.get(cls.__module__.partition(".")[0])
    folders = [
        *{sys.prefix, sys.base_prefix, sys.exec_prefix, site.getusersitepackages()},
        *(str(Path(folder).absolute()) for folder in getattr(package, "__path__", [])),
        *("/proc", "/sys", "/dev"),
    ]
    return tuple(os.path.join(folder, "") for folder in folders)  # noqa: PTH118
