"""Fill a registry: from the built-ins, from installed distributions, from a project's folders.

One path serves listing, validating and running. A plugin that fails is recorded and hurts only
who needs it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pluggy

from sightx.registry import hookspecs
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry

GROUP = "sightx"
BUILTIN = "sightx.builtin"


def load(project: Project) -> Registry:
    """Return a registry with everything that this project can name.

    `SIGHTX_PLUGINS=none` loads only what ships with SightX.
    """
    registry = Registry()
    version = importlib.metadata.version("sightx")
    builtin = Plugin("builtin", BUILTIN, "sightx", version)
    _enter(registry, builtin, lambda: importlib.import_module(BUILTIN))
    strangers = list(_installed()) + list(_local(project))
    for plugin, load_module in strangers:
        if os.environ.get("SIGHTX_PLUGINS") == "none":
            registry.add(_with(plugin, "disabled", "SIGHTX_PLUGINS=none"))
        else:
            _enter(registry, plugin, load_module)
    return registry


def _enter(registry: Registry, plugin: Plugin, load_module: Callable[[], object]) -> None:
    """Import one plugin and ask it for components; whatever it does, only it is hurt."""
    try:
        components = _components(plugin.name, load_module())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may call sys.exit, or raise what it likes
        registry.add(_with(plugin, "broken", f"{type(error).__name__}: {error}"))
    else:
        registry.add(plugin, components)


def _components(name: str, module: object) -> list[type]:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs.PluginHooks)
    manager.register(module, name=name)
    manager.check_pending()
    return [cls for classes in manager.hook.sightx_components() for cls in classes]


def _with(plugin: Plugin, state: str, error: str) -> Plugin:
    return Plugin(
        plugin.name, plugin.place, plugin.distribution, plugin.version, state, error  # type: ignore[arg-type]
    )


def _installed() -> Iterator[tuple[Plugin, Callable[[], object]]]:
    """Yield the entry points of every distribution, in an order that no folder decides."""
    points = importlib.metadata.entry_points(group=GROUP)
    for point in sorted(points, key=lambda p: (p.name, p.dist.name if p.dist else "")):
        name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
        yield Plugin(point.name, point.value, name, version), point.load


def _local(project: Project) -> Iterator[tuple[Plugin, Callable[[], object]]]:
    """Yield the modules and packages in a project's plugin folders."""
    for folder in project.plugins:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in paths:
            if path.suffix == ".py" or (path / "__init__.py").is_file():
                yield Plugin(path.stem, str(path)), _importer(folder, path)


def _importer(folder: Path, path: Path) -> Callable[[], ModuleType]:
    """Import by plain name with the folder on the path, so that spawned workers can unpickle."""

    def load_module() -> ModuleType:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        module = importlib.import_module(path.stem)
        origin = Path(module.__file__ or "")
        if folder.resolve() not in origin.resolve().parents:
            raise ImportError(f"the name {path.stem!r} is taken by {origin}")
        return module

    return load_module
