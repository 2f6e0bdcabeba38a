"""Whose code a component is: plugin, distribution, version, and a hash over the source.

The hash is over every file of the distribution, or of a project's plugin and what beside it may be
part of it, by relative path: the same content gives the same hash wherever it lies. A plugin's is
taken when it is imported, since that is the code that runs, whatever becomes of the files.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from sightx.errors import Problem
from sightx.registry.components import Component
from sightx.registry.registry import Plugin, Registry

Files = Mapping[str, Path]  # relative path: file

_LARGE = 16_000_000  # bytes from which a file counts by its size and time: it is read at each start
_LEFT = (".dist-info", ".egg-info", "__pycache__", ".pyc")  # ends of what tools leave there
_at_import: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


def component_origin(component: Component, registry: Registry | None) -> dict[str, Any]:
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
        "sha256": plugin.sha256 or source_hash(plugin),
    }


def compared_keys(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what of a component's record tells whether its results may be others.

    Of what ships with SightX only the revision: its author raises it with the results.
    """
    return ("revision",) if record["plugin"] == "builtin" else ("revision", "version", "sha256")


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what of the compared two records of a component differ in."""
    return [key for key in compared_keys(now) if before[key] != now[key]]


def describe_change(before: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Say how two records of a component differ in some keys; hashes are not shown."""
    said = [
        f"{key} {before[key] or '-'} then, {now[key] or '-'} now" for key in keys if key != "sha256"
    ]
    what = ", ".join(said) or "its source is another"
    return f"the {now['kind']} {now['name']!r} of {now['plugin']} has changed: {what}"


def add_recorded_owner(problem: Problem, origins: Iterable[Mapping[str, Any]]) -> Problem:
    """Add who brought a component that is not there now, as far as it was recorded."""
    for origin in origins:
        if problem.code == "unknown-name" and repr(origin["name"]) in problem.message:
            owner = " ".join(filter(None, (origin["distribution"], origin["version"])))
            hint = f"the run had it from {owner or 'the plugin ' + origin['plugin']}: install it"
            return replace(problem, hint=hint)
    return problem


@cache
def source_hash(plugin: Plugin) -> str:
    """Return the SHA-256 over a plugin's source, computed once a process; "" without any."""
    files = _files(plugin)
    digest = hashlib.sha256()
    for name in sorted(files):
        content = _content(files[name])
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest() if files else ""


def hash_at_import(plugin: Plugin) -> str:
    """Return the hash of a plugin's source, as it was when its module was imported first.

    It must be asked for just after an import, or have been.
    """
    local = Path(plugin.place).is_absolute()
    module = sys.modules.get(plugin.name if local else plugin.place.partition(":")[0].strip())
    if module is None:
        return ""
    if module not in _at_import:
        _at_import[module] = source_hash.__wrapped__(plugin)
    return _at_import[module]


def _content(file: Path) -> bytes:
    """Return what a file holds, or what stands for it."""
    try:
        state = file.stat()
        if state.st_size > _LARGE:
            return f"{state.st_size} {state.st_mtime_ns}".encode()
        return file.read_bytes()
    except OSError as error:
        return str(error.strerror).encode()


def _files(plugin: Plugin) -> Files:
    place = Path(plugin.place)
    if place.is_absolute():  # a project's own file or package
        return _local(place)
    module = plugin.place.partition(":")[0].strip()
    files = _imported(_packages(plugin.distribution) | {module})
    return {**files, **_recorded(plugin.distribution)}


def _local(place: Path) -> Files:
    """Return a project's file or package with what beside it may be part of it.

    That is everything but the other plugins and folders; of these, what any of it names.
    """
    folder = place.parent
    others = {
        path
        for path in folder.glob("[!._]*")
        if path != place and (path.suffix == ".py" or path.is_dir())
    }
    files = _below(folder, set(folder.iterdir()) - others)
    while found := {path for path in others if _name(files, path)}:
        others -= found
        files = {**files, **_below(folder, found)}
    return files


def _name(files: Files, other: Path) -> bool:
    """Say whether some files name another, as an import or a path does."""
    word = re.compile(rb"\b" + re.escape(other.name.removesuffix(".py")).encode() + rb"\b")
    return any(word.search(_content(file)) for file in files.values() if file.suffix == ".py")


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
    """Return the files that an installer has recorded."""
    found = _distribution(distribution)
    paths = {path.as_posix(): Path(str(path.locate())) for path in (found and found.files) or ()}
    return {
        name: path
        for name, path in paths.items()
        if ".." not in name and _counts(Path(name)) and not _shim(name) and path.is_file()
    }


def _shim(name: str) -> bool:
    """Say whether a file is what an editable install puts in place of the source."""
    shims = ("__editable__", "_editable_impl_", "_virtualenv")
    return "/" not in name and (name.startswith(shims) or name.endswith(".pth"))


def _below(root: Path, places: Iterable[Path]) -> Files:
    """Return every file in some places, by its path from the root; hidden ones are passed over."""
    return {
        path.relative_to(root).as_posix(): path
        for place in places
        for path in (place.rglob("*") if place.is_dir() else [place])
        if _counts(path.relative_to(root)) and path.is_file()
    }


def _counts(path: Path) -> bool:
    return not any(part.startswith(".") or part.endswith(_LEFT) for part in path.parts)
