"""Whose code a component is: plugin, distribution, version, and a hash over the source.

The hash is over every `.py` file of the distribution, of a project's plugin folder or of its one
file, by relative path: the same content gives the same hash wherever it lies.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sightx.registry.components import Component
from sightx.registry.registry import Plugin, Registry

Files = Mapping[str, Path]  # relative path: file


def describe(component: Component, registry: Registry | None) -> dict[str, Any]:
    """Return what is recorded of a component's origin.

    For one that no plugin has brought, as in an experiment made in Python, its module speaks.
    """
    cls = type(component)
    entries = registry.entries(component.kind) if registry else []
    brought = (entry.plugin for entry in entries if entry.component is cls)
    plugin = next(brought, Plugin("", cls.__module__))
    return {
        "kind": component.kind,
        "name": component.name,
        "revision": component.revision,
        "module": cls.__module__,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "sha256": source_hash(plugin),
    }


@cache
def source_hash(plugin: Plugin) -> str:
    """Return the SHA-256 over a plugin's source, computed once a process; "" without any."""
    files = _files(plugin)
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest() if files else ""


def _files(plugin: Plugin) -> Files:
    place = Path(plugin.place)
    if place.is_absolute():  # a project's own file or package
        return _local(place)
    module = plugin.place.partition(":")[0].strip()
    files = _imported(_packages(plugin.distribution) | {module})
    return {**files, **_recorded(plugin.distribution)}


def _local(place: Path) -> Files:
    """Return a project's file or package, and the private files beside it that it may import."""
    private = [path for path in place.parent.glob("_*") if path.name != "__pycache__"]
    return _below(place.parent, [place, *private])


def _packages(distribution: str) -> set[str]:
    """Return the modules that a distribution's entry points name, and its own list of packages.

    An editable install records no source, so that these say what it consists of.
    """
    found = _distribution(distribution)
    if found is None:
        return set()
    named = {point.module for point in found.entry_points}
    return named | set((found.read_text("top_level.txt") or "").split())


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name) if name else None
    except importlib.metadata.PackageNotFoundError:
        return None


def _imported(modules: Iterable[str]) -> Files:
    """Return the source of packages; of a namespace, only what is named below it."""
    files: dict[str, Path] = {}
    for module in modules:
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            if file := _file(".".join(parts[:depth])):
                path = Path(file)
                top = path.parent if path.name == "__init__.py" else path
                files |= _below(top.parents[depth - 1], [top])
                break
    return files


def _file(module: str) -> str | None:
    """Return where a module is, without importing it; None for a namespace or none at all."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec and spec.has_location else None


def _recorded(distribution: str) -> Files:
    """Return the Python files that an installer has recorded."""
    found = _distribution(distribution)
    paths = {path.as_posix(): Path(str(path.locate())) for path in (found and found.files) or ()}
    return {
        name: path
        for name, path in paths.items()
        if path.suffix == ".py" and ".." not in name and not _shim(name) and path.is_file()
    }


def _shim(name: str) -> bool:
    """Say whether a file is what an editable install puts in place of the source."""
    return "/" not in name and name.startswith(("__editable__", "_editable_impl_", "_virtualenv"))


def _below(root: Path, places: Iterable[Path]) -> Files:
    """Return every Python file in some places, by its path from the root."""
    return {
        path.relative_to(root).as_posix(): path
        for place in places
        for path in (place.rglob("*.py") if place.is_dir() else [place])
        if path.suffix == ".py" and path.is_file()
    }
