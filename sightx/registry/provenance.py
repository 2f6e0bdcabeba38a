"""Provenance of components: plugin, distribution, version, and a hash of the source.

The hash covers every file of a distribution, or of a project's plugin with the files next to it
that it may use, by relative path: the same files have the same hash in every folder. The source of
a plugin is hashed when it is imported, because that code runs, even if the files change later.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from sightx.errors import Problem
from sightx.registry.components import Component
from sightx.registry.registry import Plugin, Registry

Files = Mapping[str, Path]  # by relative path

LARGE_FILE = 16_000_000  # bytes; of larger files only size and time are hashed, at every start
_IGNORED_ENDINGS = (".dist-info", ".egg-info", "__pycache__", ".pyc")  # written by tools
_hashes_at_import: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


def component_origin(component: Component, registry: Registry | None) -> dict[str, Any]:
    """Return the provenance of a component, as runs and checkpoints record it.

    If no plugin provides its class, as in an experiment built in Python, its module is hashed.
    """
    cls = type(component)
    entries = registry.entries(component.kind) if registry else []
    providers = (entry.plugin for entry in entries if entry.component is cls)
    plugin = next(providers, Plugin("", cls.__module__))
    return {
        "kind": component.kind,
        "name": component.name,
        "revision": component.revision,
        "module": cls.__module__,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "sha256": plugin.sha256 or source_hash(plugin),
    }


def add_recorded_owner(problem: Problem, origins: Iterable[Mapping[str, Any]]) -> Problem:
    """Add to an unknown-name problem which plugin provided the component when it was recorded."""
    for origin in origins:
        if problem.code == "unknown-name" and repr(origin["name"]) in problem.message:
            owner = " ".join(filter(None, (origin["distribution"], origin["version"])))
            hint = f"the run had it from {owner or 'the plugin ' + origin['plugin']}: install it"
            return replace(problem, hint=hint)
    return problem


@cache
def source_hash(plugin: Plugin) -> str:
    """Return the SHA-256 of a plugin's source, "" if there is none; computed once per process."""
    files = _files(plugin)
    digest = hashlib.sha256()
    for name in sorted(files):
        content = _content(files[name])
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest() if files else ""


def hash_at_import(plugin: Plugin) -> str:
    """Return the hash of a plugin's source as it was when its module was first imported.

    Call it directly after every import; later calls return the first result.
    """
    is_local = Path(plugin.place).is_absolute()
    module = sys.modules.get(plugin.name if is_local else _module_name(plugin))
    if module is None:
        return ""
    if module not in _hashes_at_import:
        _hashes_at_import[module] = source_hash.__wrapped__(plugin)
    return _hashes_at_import[module]


def _module_name(plugin: Plugin) -> str:
    """Return the module that a distribution's entry point names."""
    return plugin.place.partition(":")[0].strip()


def _content(file: Path) -> bytes:
    """Return the content of a file; size and time of a large one; the reason for an unreadable."""
    try:
        state = file.stat()
        if state.st_size > LARGE_FILE:
            return f"{state.st_size} {state.st_mtime_ns}".encode()
        return file.read_bytes()
    except OSError as error:
        return str(error.strerror).encode()


def _files(plugin: Plugin) -> Files:
    path = Path(plugin.place)
    if path.is_absolute():
        return _project_files(path)
    files = _package_files(_packages(plugin.distribution) | {_module_name(plugin)})
    return {**files, **_recorded_files(plugin.distribution)}


def _project_files(path: Path) -> Files:
    """Return a project's module or package with the files next to it that it may use.

    These are private modules and data files, and those other modules and folders that it mentions.
    """
    folder = path.parent
    others = {
        other
        for other in folder.glob("[!._]*")
        if other != path and (other.suffix == ".py" or other.is_dir())
    }
    files = _files_below(folder, set(folder.iterdir()) - others)
    while mentioned := {other for other in others if _is_mentioned(other, files)}:
        others -= mentioned
        files = {**files, **_files_below(folder, mentioned)}
    return files


def _is_mentioned(other: Path, files: Files) -> bool:
    """Return whether the name of a module or folder occurs in some Python files."""
    name = re.compile(rb"\b" + re.escape(other.name.removesuffix(".py")).encode() + rb"\b")
    return any(name.search(_content(file)) for file in files.values() if file.suffix == ".py")


def _packages(name: str) -> set[str]:
    """Return the modules that a distribution's entry points name, and its top-level packages.

    An editable install records no source files, so they are found through its modules.
    """
    distribution = _distribution(name)
    if distribution is None:
        return set()
    modules = {point.module for point in distribution.entry_points}
    return modules | set((distribution.read_text("top_level.txt") or "").split())


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name) if name else None
    except importlib.metadata.PackageNotFoundError:
        return None


def _package_files(modules: Iterable[str]) -> Files:
    """Return the files of the top-level packages of modules; below a namespace, of the first one.

    A namespace package has no file, and other distributions may share it.
    """
    files: dict[str, Path] = {}
    for module in modules:
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            if file := _module_file(".".join(parts[:depth])):
                path = Path(file)
                top = path.parent if path.name == "__init__.py" else path
                files |= _files_below(top.parents[depth - 1], [top])
                break
    return files


def _module_file(module: str) -> str | None:
    """Return the file of a module without importing it; None for a namespace or no module."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec and spec.has_location else None


def _recorded_files(name: str) -> Files:
    """Return the files that an installer has recorded for a distribution."""
    distribution = _distribution(name)
    recorded = (distribution.files if distribution else None) or ()
    paths = {path.as_posix(): Path(str(path.locate())) for path in recorded}
    return {
        name: path
        for name, path in paths.items()
        if ".." not in name and _is_source(Path(name)) and not _is_shim(name) and path.is_file()
    }


def _is_shim(name: str) -> bool:
    """Return whether a file stands for the source of an editable install."""
    shims = ("__editable__", "_editable_impl_", "_virtualenv")
    return "/" not in name and (name.startswith(shims) or name.endswith(".pth"))


def _files_below(root: Path, paths: Iterable[Path]) -> Files:
    """Return all source files in some files and folders, by their path relative to `root`."""
    return {
        file.relative_to(root).as_posix(): file
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if _is_source(file.relative_to(root)) and file.is_file()
    }


def _is_source(path: Path) -> bool:
    """Return whether a file is neither hidden nor written by a tool."""
    return not any(part.startswith(".") or part.endswith(_IGNORED_ENDINGS) for part in path.parts)
