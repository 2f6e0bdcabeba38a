"""Attribute an exception: to the plugin whose code raised it, to the machine, or to SightX."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightx.errors import PluginError, Problem, ResourceError, SightXError, SpecError
from sightx.registry.components import Component, failed_component
from sightx.registry.registry import Plugin, Registry

_CPU_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")
_NETWORK_CALL = ("_call_impl", "torch/nn/modules/module.py")


def plugin_failure(error: BaseException, registry: Registry | None) -> PluginError | None:
    """Return an exception as the failure of a plugin, or None if it is a fault of SightX.

    The innermost frame that is in the files of a plugin names it and the line. Without one, as for
    a wrong signature, it is the plugin whose component was called. SystemExit always comes from a
    plugin, because SightX itself raises it only in commands.
    """
    files = _plugin_files(registry) if registry else {}
    cause = f"{type(error).__name__}: {error}"
    hint = "add --debug to see the traceback"
    for frame in _frames(error):
        if plugin := files.get(frame.filename):
            message = f"plugin {plugin} failed in {frame.name}: {cause}"
            problem = Problem("broken-plugin", message, hint)
            return PluginError(problem.at(frame.filename, frame.lineno or 0))
    component = failed_component(error)
    if component is not None and (owner := _owner(component, registry)):
        message = f"{owner} failed in the {component.kind} {component.name!r}: {cause}"
        return PluginError(Problem("broken-plugin", message, hint, component.kind))
    if isinstance(error, SystemExit):
        return PluginError(Problem("broken-plugin", f"a plugin failed: {cause}", hint))
    return None


def _frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    """Yield the frames of an exception from the innermost one, then those of its cause.

    Python itself replaces a StopIteration inside of a generator by a RuntimeError.
    """
    yield from reversed(traceback.extract_tb(error.__traceback__))
    if isinstance(error.__cause__, StopIteration):
        yield from _frames(error.__cause__)


@contextmanager
def explained_plugin_failures(registry: Registry) -> Iterator[None]:
    """Turn what a plugin raises into an error that names it."""
    try:
        yield
    except SightXError:
        raise
    except Exception as error:
        if failure := plugin_failure(error, registry):
            raise failure from error
        raise


def network_failure(error: BaseException, model: str) -> SpecError | None:
    """Return what a network raised in its forward pass as an error of the model, None otherwise."""
    function, file = _NETWORK_CALL
    frames = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, Exception) or not any(
        frame.name == function and frame.filename.endswith(file) for frame in frames
    ):
        return None
    reason = str(error).partition("\n")[0]
    message = f"the network of {model} failed: {type(error).__name__}: {reason}"
    hint = "change the model, the size of the images or of the batches"
    return SpecError(Problem("cannot-train", message, hint, "model"))


def _owner(component: Component, registry: Registry | None) -> str:
    """Return the plugin of a component, without a registry its module; "" for a built-in one."""
    module = type(component).__module__
    if registry is None:
        return "" if module.startswith("sightx.") else module
    plugins = (
        entry.plugin
        for entry in registry.entries(component.kind)
        if entry.component is type(component) and not entry.plugin.is_builtin
    )
    return next((f"plugin {plugin}" for plugin in plugins), "")


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
    if is_out_of_memory(error):
        hint = "lower training.micro_batch_size, or preprocess.resize.size"
        message = str(error).partition(". ")[0] or "out of memory"
        return ResourceError(Problem("out-of-memory", message, hint))
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory has run out: of the CPU, for which torch has no class, or a device."""
    torch = sys.modules.get("torch")  # without torch there is no torch error
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MEMORY)
