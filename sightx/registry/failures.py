"""Attribute an exception: to the plugin whose code raised it, to the machine, or to SightX."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from sightx.errors import PluginError, Problem, ResourceError, SightXError
from sightx.registry.registry import Plugin, Registry


def plugin_failure(error: BaseException, registry: Registry | None) -> PluginError | None:
    """Return an exception as the failure of a plugin, or None if it is a fault of SightX.

    The innermost frame that is in the files of a plugin decides. SystemExit always comes from a
    plugin, because SightX itself raises it only in commands.
    """
    files = _plugin_files(registry) if registry else {}
    cause = f"{type(error).__name__}: {error}"
    hint = "sightx --debug shows the traceback"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if plugin := files.get(frame.filename):
            message = f"plugin {plugin} failed in {frame.name}: {cause}"
            problem = Problem("broken-plugin", message, hint)
            return PluginError(problem.at(frame.filename, frame.lineno or 0))
    if isinstance(error, SystemExit):
        return PluginError(Problem("broken-plugin", f"a plugin failed: {cause}", hint))
    return None


def _plugin_files(registry: Registry) -> dict[str, Plugin]:
    """Return the source files of all plugins that provide components, except the built-ins."""
    files: dict[str, Plugin] = {}
    for entry in registry.entries():
        if entry.plugin.is_builtin:
            continue
        module = sys.modules.get(entry.component.__module__)
        package = sys.modules.get(entry.component.__module__.partition(".")[0], module)
        if file := getattr(module, "__file__", None):
            files[file] = entry.plugin
        package_file = Path(getattr(package, "__file__", None) or "")
        if package_file.name == "__init__.py":
            files |= {str(path): entry.plugin for path in package_file.parent.rglob("*.py")}
    return files


def expected_failure(error: BaseException) -> SightXError | None:
    """Return an expected exception as the error to report, None for an unexpected one."""
    if isinstance(error, SightXError):
        return error
    torch = sys.modules.get("torch")  # without torch there is no torch error
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        hint = "lower training.micro_batch_size, or preprocess.resize.size"
        return ResourceError(Problem("out-of-memory", str(error).split(". ")[0], hint))
    return None
