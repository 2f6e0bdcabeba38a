"""Fill a registry: from the built-ins, from installed distributions, from a project's folders.

One path serves listing, validating and running. A plugin that fails is recorded and hurts only
who needs it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pluggy

from sightx.errors import Problem, SpecError
from sightx.registry import hooks, provenance
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry

GROUP = "sightx"
BUILTIN = "sightx.builtin"

Found = Iterator[tuple[Plugin, Callable[[], object]]]


class _TakenError(ImportError):
    """The name of a project's module is another module's."""


def load_registry(project: Project) -> Registry:
    """Return a registry with everything that this project can name.

    `SIGHTX_PLUGINS=none` loads only what ships with SightX.
    """
    registry = Registry()
    _enter(registry, _builtin(), lambda: importlib.import_module(BUILTIN))
    switch = os.environ.get("SIGHTX_PLUGINS", "")
    if switch not in ("", "none"):
        raise SpecError(
            Problem("usage", f"SIGHTX_PLUGINS is {switch!r}", "none, or leave it unset")
        )
    disabled = switch == "none"
    for plugin, load_module in (*_installed(), *_local(project)):
        if plugin.state == "shadowed":
            registry.add(plugin)
        elif disabled:
            registry.add(replace(plugin, state="disabled", error="SIGHTX_PLUGINS=none"))
        else:
            _enter(registry, plugin, load_module)
    return registry


def _builtin() -> Plugin:
    return Plugin("builtin", BUILTIN, *_name_and_version(importlib.metadata.distribution("sightx")))


def _enter(registry: Registry, plugin: Plugin, load_module: Callable[[], object]) -> None:
    """Import one plugin and ask it for components; whatever it does, only it is hurt."""
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no part of our answer
            hooks = _Hooks(plugin.name, load_module())
            if plugin.place != BUILTIN:  # the runs of what ships are compared by revision
                plugin = replace(plugin, sha256=provenance.hash_at_import(plugin))
            components, checks = hooks.ask("components"), hooks.ask("checks")
        registry.add(plugin, components, checks, hooks.ask)
    except KeyboardInterrupt:
        raise
    except _TakenError as error:
        registry.add(plugin.shadowed(str(error)))
    except BaseException as error:  # a plugin may call sys.exit, or raise what it likes
        registry.add(plugin.failed(error))


class _Hooks:
    """Ask one plugin for what it brings. Raises where its hooks are misspelt or it has none."""

    def __init__(self, name: str, module: object) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hooks.PluginHooks)
        self._manager.register(module, name=name)
        self._manager.check_pending()
        if not self._manager.get_hookcallers(module):
            raise TypeError("it brings no hook; is @hookimpl missing?")

    def ask(self, what: str) -> list[Any]:
        """Return everything that the hook `sightx_<what>` brings."""
        brought = getattr(self._manager.hook, f"sightx_{what}")()
        return [item for items in brought for item in items]


def _installed() -> Found:
    """Yield the entry points of every distribution, in an order that no folder decides.

    Of a distribution that is there twice, the first on the path is the one that is imported.
    """
    first: dict[str, tuple[str, str]] = {}  # distribution: where it is, version
    found: list[tuple[Plugin, Callable[[], object]]] = []
    for distribution in importlib.metadata.distributions():
        if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
            continue
        name, version = _name_and_version(distribution)
        where = str(getattr(distribution, "_path", ""))
        before, its_version = first.setdefault(_normal(name), (where, version))
        for point in _points(distribution):
            plugin = Plugin(point.name, point.value, name, version)
            if before == where:
                found.append((plugin, point.load))
            else:
                reason = f"{name} {its_version} comes first, at {before}"
                found.append((replace(plugin, place=where).shadowed(reason), _absent))
    yield from _noted(sorted(found, key=lambda each: _order(each[0])))


def _noted(found: list[tuple[Plugin, Callable[[], object]]]) -> Found:
    """Tell apart the plugins that have one name; one that is read twice stands once."""
    owners: dict[str, dict[str, Plugin]] = {}
    for plugin, _ in found:
        owners.setdefault(plugin.name, {})[plugin.distribution] = plugin
    for plugin, load_module in dict(found).items():
        others = [
            f"{other.distribution} {other.version}"
            for other in owners[plugin.name].values()
            if other.distribution != plugin.distribution
        ]
        note = f"{' and '.join(others)} has an entry point of this name too" if others else ""
        yield replace(plugin, note=note), load_module


def _order(plugin: Plugin) -> tuple[str, ...]:
    return plugin.name, plugin.distribution, plugin.state, plugin.place


def _normal(name: str) -> str:
    """Return a distribution's name as installers compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Return what the head of the metadata says; the standard library's own reading is slow."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = text.partition("\n\n")[0]
    fields = dict(line.partition(": ")[::2] for line in reversed(head.splitlines()))
    return fields.get("Name", "").strip(), fields.get("Version", "").strip()


def _points(distribution: importlib.metadata.Distribution) -> list[importlib.metadata.EntryPoint]:
    """Return a distribution's entry points; a file that cannot be read is one that fails."""
    try:
        return list(distribution.entry_points.select(group=GROUP))
    except Exception:
        return [importlib.metadata.EntryPoint("entry_points.txt", "cannot be read", GROUP)]


def _local(project: Project) -> Found:
    """Yield the modules and packages in a project's plugin folders; `_names` are private."""
    for folder in project.plugins:
        if not folder.is_dir():
            yield Plugin(folder.name, str(folder)), _absent
            continue
        for path in sorted(folder.iterdir()):
            file = path if path.suffix == ".py" else path / "__init__.py"
            if file.is_file() and not path.name.startswith("_"):
                yield Plugin(path.stem, str(path)), _importer(folder, path.stem, file)


def _absent() -> object:
    raise FileNotFoundError("the folder does not exist")


def _importer(folder: Path, name: str, file: Path) -> Callable[[], object]:
    """Import by plain name with the folder on the path, so that spawned workers can unpickle.

    The folder comes last there: a file called `random` or `torch` must not take their place.
    """

    def load_module() -> object:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
            importlib.invalidate_caches()
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve() != file.resolve():
            raise _TakenError(f"the name {name!r} is taken by {origin}; call it otherwise")
        return importlib.import_module(name)

    return load_module
