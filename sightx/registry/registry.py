"""What can be named: every component by kind and name, and the state of every plugin."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from pydantic_core import PydanticCustomError

from sightx.registry.components import Component
from sightx.registry.kinds import KINDS


@dataclass(frozen=True)
class Plugin:
    """Say who brings components, from where, and whether that worked.

    `place` is a file or folder; `distribution` and `version` are empty for a project's own files.
    """

    name: str
    place: str
    distribution: str = ""
    version: str = ""
    state: Literal["loaded", "broken", "disabled"] = "loaded"
    error: str = ""

    def __str__(self) -> str:
        """Return the name as messages give it, with distribution and version where known."""
        return f"{self.name} ({self.distribution} {self.version})" if self.distribution else self.name


@dataclass(frozen=True)
class Entry:
    """Join a component with the plugin that brought it."""

    component: type[Component]
    plugin: Plugin

    @property
    def summary(self) -> str:
        """Return the first line of the component's docstring."""
        return (inspect.getdoc(self.component) or "").partition("\n")[0]

    @property
    def place(self) -> str:
        """Return `file:line` of the class, or its module where there is no source."""
        try:
            line = inspect.getsourcelines(self.component)[1]
            return f"{inspect.getsourcefile(self.component)}:{line}"
        except (OSError, TypeError):
            return self.component.__module__


@dataclass
class Registry:
    """Find component classes by kind and name; a name is given once."""

    plugins: list[Plugin] = field(default_factory=list)
    _entries: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)

    def add(self, plugin: Plugin, components: Iterable[type[Component]] = ()) -> None:
        """Enter a plugin and what it brings; a component that is none makes the plugin broken."""
        classes = list(components)
        faults = [fault for fault in map(_fault, classes) if fault]
        if faults:
            plugin, classes = replace(plugin, state="broken", error=faults[0]), []
        self.plugins.append(plugin)
        for component in classes:
            entries = self._entries.setdefault((component.kind, component.name), [])
            entries.append(Entry(component, plugin))

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return all entries, of one kind or of every kind, by kind and name."""
        order = [cls.kind for cls in KINDS]
        keys = sorted(self._entries, key=lambda key: (order.index(key[0]), key[1]))
        return [entry for key in keys if kind in (None, key[0]) for entry in self._entries[key]]

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(name for found, name in self._entries if found == kind)

    def find(self, kind: str, use: str) -> type[Component]:
        """Return the class called `use`, or `distribution:use` where two bring the name.

        Raises PydanticCustomError with code unknown-name, broken-plugin or name-clash, so that it
        lands among the other problems of a spec.
        """
        owner, _, name = use.rpartition(":")
        entries = [
            entry
            for entry in self._entries.get((kind, name), [])
            if owner in ("", entry.plugin.distribution, entry.plugin.name)
        ]
        if not entries:
            raise self._miss(kind, use)
        if len(entries) > 1:
            raise _clash(kind, use, entries)
        return entries[0].component

    def describe(self, kind: str | None = None) -> dict[str, list[dict[str, str]]]:
        """Return components and plugins as JSON holds them."""
        components = [
            {
                "kind": entry.component.kind,
                "name": entry.component.name,
                "summary": entry.summary,
                "plugin": str(entry.plugin),
                "place": entry.place,
            }
            for entry in self.entries(kind)
        ]
        return {"components": components, "plugins": [asdict(plugin) for plugin in self.plugins]}

    def entry(self, component: Component) -> Entry:
        """Return the entry of a component that this registry has made."""
        entries = self._entries[(component.kind, component.name)]
        return next(entry for entry in entries if entry.component is type(component))

    def _miss(self, kind: str, use: str) -> PydanticCustomError:
        known = self.names(kind)
        message = f"no {kind} is called {use!r}"
        if broken := [plugin for plugin in self.plugins if plugin.state == "broken"]:
            cause = f"{message}; plugin {broken[0]} is broken: {broken[0].error}"
            hint = "sightx list-plugins shows every plugin's state"
            return _problem("broken-plugin", cause, hint)
        return _problem("unknown-name", message, suggest(use, known))


def suggest(word: str, known: Sequence[str]) -> str:
    """Return a hint: the nearest known word, and all of them where they are few."""
    near = difflib.get_close_matches(word, known, 1)
    nearest = f"did you mean {near[0]!r}?" if near else ""
    listing = f"known: {', '.join(known)}" if 0 < len(known) <= 12 else ""
    return " ".join(filter(None, [nearest, listing]))


def _problem(code: str, message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})  # type: ignore[arg-type]


def _clash(kind: str, use: str, entries: list[Entry]) -> PydanticCustomError:
    owners = " and ".join(sorted(f"{entry.plugin} at {entry.place}" for entry in entries))
    first = min(entry.plugin.distribution or entry.plugin.name for entry in entries)
    message = f"the {kind} {use!r} is brought by {owners}"
    return _problem("name-clash", message, f'write use = "{first}:{use}"')


def _fault(component: object) -> str:
    """Return what is wrong with an object that a plugin calls a component."""
    if not (isinstance(component, type) and issubclass(component, Component)):
        return f"{component!r} is no component class"
    if not issubclass(component, KINDS):
        return f"{component.__name__} is of no kind"
    if not isinstance(getattr(component, "name", None), str):
        return f"{component.__name__} has no name"
    return ""
