"""Fill a registry: from the built-ins, from installed distributions, from a project's folders.

One path serves listing, validating and running. A plugin that fails is recorded and hurts only
who needs it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pluggy

from sightx.registry import hookspecs
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry

GROUP = "sightx"
BUILTIN = "sightx.builtin"

Found = Iterator[tuple[Plugin, Callable[[], object]]]


def load(project: Project) -> Registry:
    """Return a registry with everything that this project can name.

    `SIGHTX_PLUGINS=none` loads only what ships with SightX.
    """
    registry = Registry()
    builtin = Plugin("builtin", BUILTIN, "sightx", importlib.metadata.version("sightx"))
    _enter(registry, builtin, lambda: importlib.import_module(BUILTIN))
    disabled = os.environ.get("SIGHTX_PLUGINS") == "none"
    for plugin, load_module in (*_installed(), *_local(project)):
        if disabled:
            registry.add(replace(plugin, state="disabled", error="SIGHTX_PLUGINS=none"))
        else:
            _enter(registry, plugin, load_module)
    return registry


def _enter(registry: Registry, plugin: Plugin, load_module: Callable[[], object]) -> None:
    """Import one plugin and ask it for components; whatever it does, only it is hurt."""
    try:
        hooks = _Hooks(plugin.name, load_module())
        registry.add(plugin, hooks.ask("components"), hooks.ask("checks"), hooks.ask)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may call sys.exit, or raise what it likes
        registry.add(plugin.failed(error))


class _Hooks:
    """Ask one plugin for what it brings. Raises where its hooks are misspelt or it has none."""

    def __init__(self, name: str, module: object) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs.PluginHooks)
        self._manager.register(module, name=name)
        self._manager.check_pending()
        if not self._manager.get_hookcallers(module):
            raise TypeError("it brings no hook; is @hookimpl missing?")

    def ask(self, what: str) -> list[Any]:
        """Return everything that the hook `sightx_<what>` brings."""
        brought = getattr(self._manager.hook, f"sightx_{what}")()
        return [item for items in brought for item in items]


def _installed() -> Found:
    """Yield the entry points of every distribution, in an order that no folder decides."""
    found: dict[tuple[str, str, str], tuple[Plugin, Callable[[], object]]] = {}
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("entry_points.txt") or ""
        if f"[{GROUP}]" not in text:
            continue
        name, version = distribution.name or "", distribution.version or ""
        for point in _points(distribution):
            plugin = Plugin(point.name, point.value, name, version)
            found.setdefault((point.name, name, point.value), (plugin, point.load))
    yield from (found[key] for key in sorted(found))


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
            raise ImportError(f"the name {name!r} is taken by {origin}; call it otherwise")
        return importlib.import_module(name)

    return load_module
