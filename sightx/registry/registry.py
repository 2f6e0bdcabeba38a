"""The registry: every component by kind and name, every check, and the state of every plugin."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sightx.errors import Problem, did_you_mean, printable, suggest
from sightx.io.files import natural_key
from sightx.records.origins import BUILTIN
from sightx.registry.components import Component, UnknownComponentError
from sightx.registry.hooks import Check
from sightx.registry.kinds import KINDS
from sightx.registry.suggestions import component_hint, components_called


@dataclass(frozen=True)
class Plugin:
    """A module or distribution that provides components, and whether it works.

    Attributes:
        name: Name of the entry point, or of a project's module.
        place: What the entry point names, or the path of a project's module.
        distribution: Name of the distribution; "" for a project's module.
        version: Version of the distribution; "" for a project's module.
        state: Shadowed means that another plugin or module with this name comes first.
        error: One line that says why the plugin is not loaded.
        note: A remark about a plugin that is loaded.
        cause: The exception behind `error`; `sightx --debug` shows it.
        sha256: Hash of the source that was imported; "" for the built-ins.
        seconds: How long the import took, 0 if it had been imported before.
    """

    name: str
    place: str
    distribution: str = ""
    version: str = ""
    state: Literal["loaded", "broken", "disabled", "shadowed"] = "loaded"
    error: str = ""
    note: str = ""
    cause: BaseException | None = field(default=None, repr=False, compare=False)
    sha256: str = field(default="", repr=False, compare=False)
    seconds: float = field(default=0.0, repr=False, compare=False)

    def failed(self, error: BaseException) -> Plugin:
        """Return a copy that is broken by an exception."""
        line = _constant_fault(error) or " ".join(f"{type(error).__name__}: {error}".split())
        return replace(self, state="broken", error=printable(line), cause=error)

    def shadowed(self, reason: str) -> Plugin:
        """Return a copy that cannot be reached, because something with its name comes first."""
        return replace(self, state="shadowed", error=reason)

    @property
    def is_builtin(self) -> bool:
        """Return whether the plugin ships with SightX."""
        return self.place == BUILTIN

    @property
    def status(self) -> str:
        """Return the state of a plugin that is not loaded, and why, in one line."""
        return f"{self} is {self.state}: {self.error}"

    def __str__(self) -> str:
        """Return the name, with distribution and version if there are any."""
        return (
            f"{self.name} ({self.distribution} {self.version})" if self.distribution else self.name
        )


def _constant_fault(error: BaseException) -> str:
    """Return what to do about a constant without a type in a component, "" for another error."""
    code = getattr(error, "code", "")
    if code == "model-field-overridden":
        field = str(error).partition("'")[2].partition("'")[0]
        return f"a component sets {field!r} without its type; write {field}: TYPE = VALUE"
    if code != "model-field-missing-annotation":
        return ""
    constant = str(error).partition("`")[2].partition("`")[0]
    name, _, value = constant.partition(" = ")
    if hint := did_you_mean(name, {trait for kind in KINDS for trait in kind.__class_vars__}):
        return f"SightX does not use {name!r}; {hint}"
    advice = f"write it outside of the class, or as {name}: ClassVar = {value}"
    return f"the constant {constant} in a component has no type; {advice}"


@dataclass(frozen=True)
class Entry:
    """A component class and the plugin that provides it."""

    component: type[Component]
    plugin: Plugin

    @property
    def summary(self) -> str:
        """Return the first line of the component's docstring."""
        from sightx.registry.introspection import docstring  # only listings need it

        return docstring(self.component).partition("\n")[0].rstrip()

    @property
    def place(self) -> str:
        """Return `file:line` of the class, or its module if there is no source."""
        return source_location(self.component)

    def __str__(self) -> str:
        """Return the plugin, and where the class is written."""
        return f"{self.plugin} at {self.place}"


@dataclass
class Registry:
    """Component classes by kind and name, checks, and plugins."""

    plugins: list[Plugin] = field(default_factory=list)
    checks: list[tuple[Check, Plugin]] = field(default_factory=list)
    _commands: list[tuple[Plugin, Callable[[], list[Any]]]] = field(default_factory=list)
    _entries: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)

    def add(
        self,
        plugin: Plugin,
        components: Iterable[type[Component]] = (),
        checks: Iterable[Check] = (),
        commands: Callable[[], list[Any]] | None = None,
    ) -> None:
        """Add a plugin and what it provides; `commands` is called only when they are needed."""
        self.plugins.append(plugin)
        self.checks += [(check, plugin) for check in checks]
        if commands:
            self._commands.append((plugin, commands))
        for component in components:
            entries = self._entries.setdefault((component.kind, component.name), [])
            entries.append(Entry(component, plugin))

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return the entries of one kind or of all, by kind and name: `a9` before `a10`."""
        order = [cls.kind for cls in KINDS]
        keys = sorted(self._entries, key=lambda key: (order.index(key[0]), natural_key(key[1])))
        return [entry for key in keys if kind in (None, key[0]) for entry in self._entries[key]]

    def components(self) -> list[type[Component]]:
        """Return the classes of all entries, by kind and name."""
        return [entry.component for entry in self.entries()]

    def meant_by(self, kind: str, name: str) -> list[str]:
        """Return the names of the components of a kind that users of other libraries call so."""
        own = [entry.component for entry in self.entries(kind)]
        return [component.name for component in components_called(own, name)]

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(name for other, name in self._entries if other == kind)

    def find(self, kind: str, use: str) -> type[Component]:
        """Return the class that `use` names: a name, or `owner:name` if two plugins provide it.

        Raises UnknownComponentError.
        """
        return self.find_entry(kind, use).component

    def find_entry(self, kind: str, use: str) -> Entry:
        """Return the entry of the class that `find` returns. Raises UnknownComponentError."""
        owner, _, name = use.rpartition(":")
        entries = [
            entry
            for entry in self._entries.get((kind, name), [])
            if owner in ("", entry.plugin.distribution, entry.plugin.name)
        ]
        if len(entries) == 1:
            return entries[0]
        problem = _clash(kind, use, entries) if entries else self._missing(kind, use)
        raise UnknownComponentError(problem)

    def commands(self) -> list[tuple[Any, Plugin]]:
        """Return the commands of all plugins; a plugin that fails to return its own is broken."""
        commands = []
        for plugin, provide in self._commands:
            try:
                commands += [(command, plugin) for command in provide()]
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # as when loading: it may call sys.exit
                self.mark_broken(plugin, error)
        return commands

    def mark_broken(self, plugin: Plugin, error: BaseException) -> None:
        """Record that a loaded plugin turned out to be broken."""
        key = (plugin.name, plugin.place, plugin.distribution)
        self.plugins[:] = [
            other.failed(error) if (other.name, other.place, other.distribution) == key else other
            for other in self.plugins
        ]

    @property
    def broken(self) -> list[Plugin]:
        """Return the plugins that do not work.

        They include a project's module whose name is taken, but not a second installation of a
        distribution, since the first one works.
        """
        return [
            plugin
            for plugin in self.plugins
            if plugin.state == "broken" or (plugin.state == "shadowed" and not plugin.distribution)
        ]

    def warnings(self) -> list[Problem]:
        """Return a warning for each plugin that does not work."""
        hint = "sightx list-plugins shows every plugin's state"
        return [
            Problem(
                "broken-plugin",
                f"plugin {plugin} at {plugin.place} is {plugin.state}: {plugin.error}",
                hint,
                severity="warning",
            )
            for plugin in self.broken
        ]

    def clashes(self, entry: Entry) -> list[Entry]:
        """Return the other entries with the same kind and name."""
        same = self._entries[(entry.component.kind, entry.component.name)]
        return [other for other in same if other is not entry]

    def describe(self, kind: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return components and plugins as JSON holds them."""
        keys = ("name", "place", "distribution", "version", "state", "error", "note", "seconds")
        return {
            "components": [self.describe_entry(entry) for entry in self.entries(kind)],
            "plugins": [{key: getattr(plugin, key) for key in keys} for plugin in self.plugins],
        }

    def describe_entry(self, entry: Entry) -> dict[str, Any]:
        """Return a component and its origin as JSON holds them, without its settings."""
        component, plugin = entry.component, entry.plugin
        return {
            "kind": component.kind,
            "name": component.name,
            "summary": entry.summary,
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "revision": component.revision,
            "place": entry.place,
            "clashes": [str(other) for other in self.clashes(entry)],
        }

    def _missing(self, kind: str, use: str) -> Problem:
        message = f"no {kind} is called {use!r}"
        if self.broken:
            causes = ", ".join(plugin.status for plugin in self.broken)
            close = did_you_mean(use, self.names(kind))
            hint = " ".join(filter(None, [close, "add --debug to see the traceback"]))
            return Problem("broken-plugin", f"{message}; plugin {causes}", hint)
        if kinds := [other for other, name in self._entries if name == use]:
            message += f", but {'an' if kinds[0][0] in 'aeiou' else 'a'} {kinds[0]} is"
        owner, _, name = use.rpartition(":")
        if owner and not any(owner in (p.name, p.distribution) for p in self.plugins):
            message += f", nor a plugin {owner!r}"
        hint = f"move it to {kinds[0]}" if kinds else ""
        hint = hint or component_hint(self.components(), kind, name)
        hint = hint or suggest(name, self.names(kind))
        hint = hint or f"sightx list-plugins {kind} shows the names"
        if any(plugin.state == "disabled" for plugin in self.plugins):
            hint += "; SIGHTX_PLUGINS=none switches plugins off"
        return Problem("unknown-name", message, hint)


def _clash(kind: str, use: str, entries: list[Entry]) -> Problem:
    providers = " and ".join(sorted(map(str, entries)))
    owners = sorted({entry.plugin.distribution or entry.plugin.name for entry in entries})
    name = use.rpartition(":")[2]
    uses = " or ".join(f'"{owner}:{name}"' for owner in owners)
    message = f"the {kind} {use!r} is provided by {providers}"
    return Problem("name-clash", message, f"write use = {uses}")


def source_location(cls: type) -> str:
    """Return `file:line` of a class, or its module if there is no source."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file and (line := _line_of_class(file, cls)):
        return f"{file}:{line}"
    return cls.__module__


def _line_of_class(file: str, cls: type) -> int:
    """Return the line of a class, 0 if it is not in the file.

    `inspect` parses the whole file for each class. If only one line can be the class, searching for
    it is much faster.
    """
    pattern = rf"^\s*class {re.escape(cls.__name__)}\b"
    numbers = [n for n, line in enumerate(_lines(file), 1) if re.match(pattern, line)]
    if len(numbers) < 2:
        return sum(numbers)
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 0


@cache
def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
