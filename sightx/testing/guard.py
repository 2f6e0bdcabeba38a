"""See what a call opens: files outside the Python installation, and connections."""

from __future__ import annotations

import os
import site
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CONNECTIONS = frozenset({
    "socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname",
    "socket.sendto", "urllib.Request",
})  # fmt: skip
_MODULES = (".py", ".pyc", ".so", ".pyd", ".dylib")
_KERNEL = ("/proc/", "/sys/", "/dev/")


class _Guard:
    """Hear python's audit events while a call is watched; a hook can never be taken out again."""

    def __init__(self) -> None:
        self.installed = False
        self.thread: int | None = None
        self.allowed: tuple[str, ...] = ()
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.thread != threading.get_ident():
            return
        if event in _CONNECTIONS:
            self.refuse("opened a connection")
        elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - a Path costs more
            if not (path.startswith(self.allowed) or _is_module(path)):
                self.refuse(f"opened {path}")

    def refuse(self, what: str) -> None:
        self.seen.append(what)
        raise PermissionError(what)


_guard = _Guard()


@contextmanager
def sealed(cls: type) -> Iterator[list[str]]:
    """Refuse what a class's method may not open; yield the list of what it tried.

    Modules may be imported, and the files of the class's own package read.
    """
    if not _guard.installed:
        sys.addaudithook(_guard)
        _guard.installed = True
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, site.getusersitepackages()}
    folders = (os.path.join(prefix, "") for prefix in (*prefixes, *_package(cls)))  # noqa: PTH118
    _guard.allowed, _guard.seen = (*folders, *_KERNEL), []
    _guard.thread = threading.get_ident()
    try:
        with _safetensors_heard():
            yield _guard.seen
    finally:
        _guard.thread = None


@contextmanager
def _safetensors_heard() -> Iterator[None]:
    """Let the guard hear of what safetensors opens: its own code is no Python, and raises no event.

    A module that is first imported meanwhile keeps the replacement, which then only passes on.
    """
    import safetensors

    original: Any = safetensors.safe_open

    def safe_open(path: Any, *arguments: Any, **options: Any) -> Any:
        if _guard.thread == threading.get_ident():
            _guard.refuse(f"opened {path}")
        return original(path, *arguments, **options)

    names = ("safetensors", "safetensors.torch")
    modules: list[Any] = [sys.modules[name] for name in names if name in sys.modules]
    for module in modules:
        module.safe_open = safe_open
    try:
        yield
    finally:
        for module in modules:
            module.safe_open = original


def _is_module(path: str) -> bool:
    return path.endswith(_MODULES) or "__pycache__" in path


def _package(cls: type) -> list[str]:
    """Return the folders of the package that a class lives in; none for a single file."""
    top = sys.modules.get(cls.__module__.partition(".")[0])
    return [str(Path(folder).absolute()) for folder in getattr(top, "__path__", [])]
