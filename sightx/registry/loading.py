"""Fill a registry: from the built-ins, from installed distributions, from a project's folders.

Listing, validating and running all load plugins here. A plugin that fails is recorded as broken,
and only specs that need it fail.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pluggy

from sightx.errors import Problem, SpecError
from sightx.records.origins import BUILTIN
from sightx.registry import hooks, provenance
from sightx.registry.class_faults import component_fault
from sightx.registry.hooks import STAGES, Check
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry

ENTRY_POINT_GROUP = "sightx"
_SLOW_IMPORT = 0.5  # seconds
_CHECK_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

Importer = Callable[[], object]
PluginImporter = tuple[Plugin, Importer]


class _NameTakenError(ImportError):
    """Another module has the name of a project's module."""


def load_registry(project: Project) -> Registry:
    """Return a registry with everything that a spec of this project can name.

    With `SIGHTX_PLUGINS=none` only the built-in components are loaded. Raises SpecError for another
    value of that variable.
    """
    switch = os.environ.get("SIGHTX_PLUGINS", "")
    if switch not in ("", "none"):
        raise SpecError(
            Problem("usage", f"SIGHTX_PLUGINS is {switch!r}", "none, or leave it unset")
        )
    registry = Registry()
    distribution = importlib.metadata.distribution("sightx")
    builtin = Plugin("builtin", BUILTIN, *_name_and_version(distribution))
    _load_plugin(registry, builtin, lambda: importlib.import_module(BUILTIN))
    for plugin, import_module in (*_installed_plugins(), *_project_plugins(project)):
        if plugin.state == "shadowed":
            registry.add(plugin)
        elif switch == "none":
            registry.add(replace(plugin, state="disabled", error="SIGHTX_PLUGINS=none"))
        else:
            _load_plugin(registry, plugin, import_module)
    return registry


def _load_plugin(registry: Registry, plugin: Plugin, import_module: Importer) -> None:
    """Import one plugin and add what it provides; if it fails, add it as broken."""
    try:
        # What a plugin prints is not part of a command's output. pydantic warns of fields that hide
        # a method, which are a fault here.
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
            plugin, module = _timed_import(plugin, import_module)
            call_hook = _hook_caller(plugin.name, module)
            if not plugin.is_builtin:  # the built-ins have revisions for that
                plugin = replace(plugin, sha256=provenance.hash_at_import(plugin))
            components, checks = call_hook("sightx_components"), call_hook("sightx_checks")
    except KeyboardInterrupt:
        raise
    except _NameTakenError as error:
        registry.add(plugin.shadowed(str(error)))
    except BaseException as error:  # a plugin may call sys.exit, or raise anything
        registry.add(plugin.failed(error))
    else:
        owners = {check.code: str(owner) for check, owner in registry.checks}
        fault = component_fault(components, is_builtin=plugin.is_builtin)
        if fault := fault or check_fault(checks, owners):
            registry.add(replace(plugin, state="broken", error=fault))
        else:
            registry.add(plugin, components, checks, lambda: call_hook("sightx_commands"))


def _timed_import(plugin: Plugin, import_module: Importer) -> tuple[Plugin, object]:
    """Import a plugin; return it with the seconds, noted if every command has to wait for it."""
    had_torch, start = "torch" in sys.modules, time.perf_counter()
    module = import_module()
    seconds = round(time.perf_counter() - start, 3)
    brings_torch = "torch" in sys.modules and not had_torch
    if plugin.is_builtin or not (brings_torch or seconds > _SLOW_IMPORT):
        return replace(plugin, seconds=seconds), module
    cause = " and loads torch" if brings_torch else ""
    slow = f"its import takes {seconds:.1f} s{cause} in every command; import inside of methods"
    note = "; ".join(filter(None, [plugin.note, slow]))
    return replace(plugin, seconds=seconds, note=note), module


def _hook_caller(name: str, module: object) -> Callable[[str], list[Any]]:
    """Return a function that calls a hook of one plugin and returns all items that it provides.

    Each plugin has its own plugin manager, so that one plugin's failure does not affect another.
    Raises if hooks are misspelt or missing.
    """
    manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
    manager.add_hookspecs(hooks.PluginHooks)
    hooks.register(manager, module, name, hooks.PluginHooks)

    def call(hook: str) -> list[Any]:
        results = getattr(manager.hook, hook)()
        if not results and getattr(manager.hook, hook).get_hookimpls():
            raise TypeError(f"{hook}() returned None; return a list")
        return [item for items in results for item in items]

    return call


def _installed_plugins() -> Iterator[PluginImporter]:
    """Yield the entry points of all distributions, sorted, so that folders do not decide the order.

    If a distribution is installed twice, the one that comes first on the path is imported.
    """
    first: dict[str, tuple[str, str]] = {}  # distribution: its location and version
    found: list[PluginImporter] = []
    for distribution in importlib.metadata.distributions():
        if f"[{ENTRY_POINT_GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
            continue
        name, version = _name_and_version(distribution)
        location = str(getattr(distribution, "_path", ""))
        normalized = re.sub(r"[-_.]+", "-", name).lower()  # as installers compare names
        first_location, first_version = first.setdefault(normalized, (location, version))
        for point in _entry_points(distribution):
            plugin = Plugin(point.name, point.value, name, version)
            if first_location == location:
                found.append((plugin, point.load))
            else:
                reason = f"{name} {first_version} comes first, at {first_location}"
                found.append((replace(plugin, place=location).shadowed(reason), _missing_folder))

    def order(item: PluginImporter) -> tuple[str, ...]:
        return item[0].name, item[0].distribution, item[0].state, item[0].place

    yield from _note_same_names(sorted(found, key=order))


def _note_same_names(found: list[PluginImporter]) -> Iterator[PluginImporter]:
    """Yield each plugin once, with a note if other distributions have a plugin with its name."""
    owners: dict[str, dict[str, Plugin]] = {}
    for plugin, _ in found:
        owners.setdefault(plugin.name, {})[plugin.distribution] = plugin
    for plugin, import_module in dict(found).items():
        others = [
            f"{other.distribution} {other.version}"
            for other in owners[plugin.name].values()
            if other.distribution != plugin.distribution
        ]
        note = f"{' and '.join(others)} has an entry point of this name too" if others else ""
        yield replace(plugin, note=note), import_module


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Read name and version from the head of the metadata; `importlib.metadata` parses all of it.

    That takes much longer.
    """
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = text.partition("\n\n")[0]
    fields = dict(line.partition(": ")[::2] for line in reversed(head.splitlines()))
    return fields.get("Name", "").strip(), fields.get("Version", "").strip()


def _entry_points(
    distribution: importlib.metadata.Distribution,
) -> list[importlib.metadata.EntryPoint]:
    """Return a distribution's entry points; for an unreadable file, one that fails to load."""
    try:
        return list(distribution.entry_points.select(group=ENTRY_POINT_GROUP))
    except Exception:
        return [
            importlib.metadata.EntryPoint("entry_points.txt", "cannot be read", ENTRY_POINT_GROUP)
        ]


def _project_plugins(project: Project) -> Iterator[PluginImporter]:
    """Yield the modules and packages in a project's plugin folders, except `_private` ones."""
    for folder in project.plugins:
        if not folder.is_dir():
            yield Plugin(folder.name, str(folder)), _missing_folder
            continue
        for path in sorted(folder.iterdir()):
            file = path if path.suffix == ".py" else path / "__init__.py"
            if file.is_file() and not path.name.startswith("_"):
                yield Plugin(path.stem, str(path)), _importer(folder, path.stem, file)


def _missing_folder() -> object:
    raise FileNotFoundError("the folder does not exist")


def _importer(folder: Path, name: str, file: Path) -> Importer:
    """Return a function that imports a project's module by its plain name.

    Its folder is appended to `sys.path`, so that spawned worker processes can unpickle its classes,
    and comes last, so that a file called `random` or `torch` does not replace that module.
    """

    def import_module() -> object:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
            importlib.invalidate_caches()
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve() != file.resolve():
            message = f"the name {name!r} is taken by {origin}; choose another name"
            raise _NameTakenError(message)
        return importlib.import_module(name)

    return import_module


def check_fault(checks: Sequence[Any], owners: Mapping[str, str]) -> str:
    """Return what is wrong with the checks of a plugin, "" if nothing is.

    `owners` maps the codes of other plugins' checks to their plugins.
    """
    return next(filter(None, (_check_fault(check, owners) for check in checks)), "")


def _check_fault(check: Any, owners: Mapping[str, str]) -> str:
    if type(check) is not Check:
        return f"{check!r} is not a check"
    if not (isinstance(check.code, str) and _CHECK_CODE.fullmatch(check.code)):
        return f"{check.code!r} is not a code: lower-case words with dashes"
    if check.code in owners:
        return f"the code {check.code!r} is that of a check of {owners[check.code]}"
    if check.stage not in STAGES:
        return f"the check {check.code!r} has the stage {check.stage!r}: {', '.join(STAGES)}"
    if check.severity not in ("error", "warning"):
        return f"the check {check.code!r} has the severity {check.severity!r}: error, warning"
    return "" if callable(check.find) else f"`find` of the check {check.code!r} is not a function"
