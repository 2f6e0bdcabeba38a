"""What can be named: every component by kind and name, and the state of every plugin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from sightx.errors import Problem, did_you_mean, suggest
from sightx.registry import faults, source
from sightx.registry.checks import Check
from sightx.registry.components import Component
from sightx.registry.kinds import KINDS

Ask = Callable[[str], list[Any]]


@dataclass(frozen=True)
class Plugin:
    """Say who brings components, from where, and whether that worked.

    `place` is a file, or what an entry point names; `distribution` and `version` are empty for a
    project's own files. `error` says in one line why a plugin is broken, disabled or shadowed (it
    can never be reached: something before it has its name); `cause` is there for `--debug`. `note`
    is what is worth knowing of one that is loaded, `sha256` the hash of the source that was.
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

    def failed(self, error: BaseException) -> Plugin:
        """Return the plugin as broken by an error."""
        line = " ".join(f"{type(error).__name__}: {error}".split())
        said = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        return replace(self, state="broken", error=said, cause=error)

    def shadowed(self, reason: str) -> Plugin:
        """Return the plugin as one that can never be reached."""
        return replace(self, state="shadowed", error=reason)

    def __str__(self) -> str:
        """Return the name as messages give it, with distribution and version where known."""
        return (
            f"{self.name} ({self.distribution} {self.version})" if self.distribution else self.name
        )


@dataclass(frozen=True)
class Entry:
    """Join a component with the plugin that brought it."""

    component: type[Component]
    plugin: Plugin

    @property
    def summary(self) -> str:
        """Return the first line of the component's docstring."""
        return (self.component.__doc__ or "").strip().partition("\n")[0].rstrip()

    @property
    def place(self) -> str:
        """Return `file:line` of the class, or its module where there is no source."""
        return source.source_location(self.component)

    def __str__(self) -> str:
        """Return who brought the component, and where it is written."""
        return f"{self.plugin} at {self.place}"


@dataclass
class Registry:
    """Find component classes by kind and name; a name is given once."""

    plugins: list[Plugin] = field(default_factory=list)
    checks: list[tuple[Check, Plugin]] = field(default_factory=list)
    _asking: list[tuple[Plugin, Ask]] = field(default_factory=list)
    _entries: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)

    def add(
        self,
        plugin: Plugin,
        components: Iterable[type[Component]] = (),
        checks: Iterable[Check] = (),
        ask: Ask | None = None,
    ) -> None:
        """Enter a plugin and what it brings; one that is no proper component breaks the plugin.

        `ask` is kept for what is wanted seldom: commands.
        """
        classes, rules = list(components), list(checks)
        taken = {rule.code: str(owner) for rule, owner in self.checks}
        if fault := faults.component_fault(classes) or faults.check_fault(rules, taken):
            plugin, classes, rules = replace(plugin, state="broken", error=fault), [], []
        self.plugins.append(plugin)
        self.checks += [(rule, plugin) for rule in rules]
        if ask and plugin.state == "loaded":
            self._asking.append((plugin, ask))
        for component in classes:
            entries = self._entries.setdefault((component.kind, component.name), [])
            entries.append(Entry(component, plugin))

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return all entries, of one kind or of every kind, by kind and name: `a9` before `a10`."""
        order = [cls.kind for cls in KINDS]
        keys = sorted(self._entries, key=lambda key: (order.index(key[0]), natural_key(key[1])))
        return [entry for key in keys if kind in (None, key[0]) for entry in self._entries[key]]

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(name for found, name in self._entries if found == kind)

    def find(self, kind: str, use: str) -> type[Component]:
        """Return the class called `use`, or `distribution:use` where two bring the name.

        Raises PydanticCustomError with code unknown-name, broken-plugin or name-clash, so that it
        lands among the other problems of a spec.
        """
        return self.named(kind, use).component

    def named(self, kind: str, use: str) -> Entry:
        """Return the entry that `find` returns the class of."""
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
        return entries[0]

    def commands(self) -> list[tuple[Any, Plugin]]:
        """Return the commands that plugins bring; one that fails to answer brings none."""
        found = []
        for plugin, ask in self._asking:
            try:
                found += [(command, plugin) for command in ask("commands")]
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # as when loading: it may call sys.exit
                self.fail(plugin, error)
        return found

    def fail(self, plugin: Plugin, error: BaseException) -> None:
        """Remember that a plugin that was loaded is broken after all."""
        same = (plugin.name, plugin.place, plugin.distribution)
        self.plugins[:] = [
            plugin.failed(error) if (p.name, p.place, p.distribution) == same else p
            for p in self.plugins
        ]

    @property
    def broken(self) -> list[Plugin]:
        """Return the plugins that do not work.

        A project's file whose name is taken is one of them. A distribution found a second time is
        not: the first is there.
        """
        return [
            plugin
            for plugin in self.plugins
            if plugin.state == "broken" or (plugin.state == "shadowed" and not plugin.distribution)
        ]

    def warnings(self) -> list[Problem]:
        """Return a warning for each broken plugin."""
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
        """Return the other entries of an entry's kind and name."""
        same = self._entries[(entry.component.kind, entry.component.name)]
        return [other for other in same if other is not entry]

    def describe(self, kind: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return components and plugins as JSON holds them."""
        keys = ("name", "place", "distribution", "version", "state", "error", "note")
        return {
            "components": [self.record(entry) for entry in self.entries(kind)],
            "plugins": [{key: getattr(plugin, key) for key in keys} for plugin in self.plugins],
        }

    def record(self, entry: Entry) -> dict[str, Any]:
        """Return what is known of a component without asking for its settings."""
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

    def entry(self, component: Component) -> Entry:
        """Return the entry of a component that this registry has made."""
        entries = self._entries[(component.kind, component.name)]
        return next(entry for entry in entries if entry.component is type(component))

    def _miss(self, kind: str, use: str) -> PydanticCustomError:
        message = f"no {kind} is called {use!r}"
        if self.broken:
            causes = ", ".join(
                f"{plugin} is {plugin.state}: {plugin.error}" for plugin in self.broken
            )
            near = did_you_mean(use, self.names(kind))
            hint = " ".join(filter(None, [near, "sightx --debug shows the traceback"]))
            return _problem("broken-plugin", f"{message}; plugin {causes}", hint)
        if others := [found for found, name in self._entries if name == use]:
            message += f", but {_article(others[0])} {others[0]} is"
        owner, _, name = use.rpartition(":")
        if owner and not any(owner in (p.name, p.distribution) for p in self.plugins):
            message += f", nor a plugin {owner!r}"
        hint = suggest(name, self.names(kind)) or f"sightx list-plugins {kind} shows the names"
        if any(plugin.state == "disabled" for plugin in self.plugins):
            hint += "; SIGHTX_PLUGINS=none switches plugins off"
        return _problem("unknown-name", message, hint)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def natural_key(name: str) -> list[tuple[str, int]]:
    """Return what sorts names as people count: `resnet9` before `resnet10`."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _problem(code: str, message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def _clash(kind: str, use: str, entries: list[Entry]) -> PydanticCustomError:
    owners = " and ".join(sorted(map(str, entries)))
    choices = sorted({entry.plugin.distribution or entry.plugin.name for entry in entries})
    name = use.rpartition(":")[2]
    uses = " or ".join(f'"{owner}:{name}"' for owner in choices)
    message = f"the {kind} {use!r} is brought by {owners}"
    return _problem("name-clash", message, f"write use = {uses}")
