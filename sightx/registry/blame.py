"""Whose fault an exception is: the plugin's in whose code it arose, or ours."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from sightx.errors import PluginError, Problem, ResourceError, SightXError
from sightx.registry.loading import BUILTIN
from sightx.registry.registry import Plugin, Registry


def plugin_failure(error: BaseException, registry: Registry | None) -> PluginError | None:
    """Return an exception as the failure of the plugin it came from, or None where it is ours.

    The innermost frame that lies in a plugin's own files decides. SystemExit is a plugin's in any
    case: nothing of SightX raises it below a command.
    """
    files = _files(registry) if registry else {}
    said = f"{type(error).__name__}: {error}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if plugin := files.get(frame.filename):
            message = f"plugin {plugin} failed in {frame.name}: {said}"
            return _failure(message, frame.filename, frame.lineno or 0)
    return _failure(f"a plugin failed: {said}") if isinstance(error, SystemExit) else None


def _failure(message: str, file: str = "", line: int = 0) -> PluginError:
    hint = "sightx --debug shows the traceback"
    return PluginError(Problem("broken-plugin", message, hint, file=file, line=line))


def _files(registry: Registry) -> dict[str, Plugin]:
    """Return the source files that plugins of others have brought components from."""
    found: dict[str, Plugin] = {}
    for entry in registry.entries():
        if entry.plugin.place == BUILTIN:
            continue
        module = sys.modules.get(entry.component.__module__)
        top = sys.modules.get(entry.component.__module__.partition(".")[0], module)
        if file := getattr(module, "__file__", None):
            found[file] = entry.plugin
        folder = Path(getattr(top, "__file__", None) or "")
        if folder.name == "__init__.py":
            found |= {str(path): entry.plugin for path in folder.parent.rglob("*.py")}
    return found


def expected_failure(error: BaseException) -> SightXError | None:
    """Return the failure that an error stands for, or None for one that nobody expected."""
    if isinstance(error, SightXError):
        return error
    if _is_out_of_memory(error):
        hint = "lower training.micro_batch_size, or preprocess.resize.size"
        return ResourceError(Problem("out-of-memory", str(error).split(". ")[0], hint))
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # without torch there is no torch error
    return isinstance(error, MemoryError) or bool(
        torch and isinstance(error, torch.OutOfMemoryError)
    )
