"""The commands that plugins bring; asked only where a command is unknown, or help lists all."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightx.errors import PluginError, Problem, SightXError, SpecError, did_you_mean

if TYPE_CHECKING:
    from sightx.registry.registry import Plugin, Registry


@dataclass
class Strangers:
    """Know what plugins bring beside our own commands; a name is given once, and ours are ours."""

    own: Collection[str]

    @cached_property
    def _registry(self) -> Registry:
        from sightx.registry import loading, project

        return loading.load_registry(project.find_project(Path.cwd()))

    @cached_property
    def _found(self) -> dict[str, list[tuple[click.Command, Plugin]]]:
        """Return who brings each name; what is no command breaks its plugin."""
        found: dict[str, list[tuple[click.Command, Plugin]]] = {}
        for command, plugin in self._registry.commands():
            if isinstance(command, click.Command) and command.name:
                found.setdefault(command.name, []).append((command, plugin))
            else:
                fault = TypeError(f"sightx_commands brings {command!r}, which is no click command")
                self._registry.fail(plugin, fault)
        return found

    def get(self, name: str) -> click.Command:
        """Return a plugin's command.

        Raises PluginError where two bring it, or a broken plugin might; SpecError where none does.
        """
        brought = self._found.get(name, [])
        if len(brought) > 1:
            message = f"the command {name!r} is brought by {_owners(brought)}"
            hint = "remove one, or ask its author for another name"
            raise PluginError(Problem("name-clash", message, hint))
        if brought:
            return _guarded(*brought[0])
        message = f"no command is called {name!r}"
        near = did_you_mean(name, sorted({*self.own, *self._found}))
        if not near and (broken := self._registry.broken):
            causes = ", ".join(f"{plugin} is {plugin.state}: {plugin.error}" for plugin in broken)
            hint = "sightx --debug shows the traceback"
            raise PluginError(
                Problem("broken-plugin", f"{message}; plugin {causes}", hint)
            ) from broken[0].cause
        raise SpecError(Problem("usage", message, near or "sightx --help"))

    def help(self) -> list[tuple[str, str]]:
        """Return each name with a line about it; whatever is wrong with plugins is such a line."""
        try:
            found = self._found
        except SightXError as error:
            return [("", str(error.problems[0]))]
        rows = [(name, self._about(name, brought)) for name, brought in sorted(found.items())]
        return rows + [
            (plugin.name, f"{plugin} is {plugin.state}: {plugin.error}")
            for plugin in self._registry.broken
        ]

    def _about(self, name: str, brought: list[tuple[click.Command, Plugin]]) -> str:
        if name in self.own:
            return f"refused: sightx has this command; brought by {_owners(brought)}"
        if len(brought) > 1:
            return f"refused: brought by {_owners(brought)}"
        command, plugin = brought[0]
        return f"{command.get_short_help_str(60)} [{plugin}]"


def _owners(brought: list[tuple[click.Command, Plugin]]) -> str:
    return " and ".join(sorted(f"{plugin} at {plugin.place}" for _, plugin in brought))


def _guarded(command: click.Command, plugin: Plugin) -> click.Command:
    """Return a command whose failures are its plugin's, not ours."""
    guarded_command, invoke = copy.copy(command), command.invoke

    def guarded(ctx: click.Context) -> Any:
        try:
            return invoke(ctx)
        except (SightXError, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            failed = plugin.failed(error)
            message = f"the command {command.name!r} of {plugin} failed: {failed.error}"
            hint = "sightx --debug shows its traceback"
            raise PluginError(Problem("broken-plugin", message, hint)) from error

    guarded_command.invoke = guarded  # type: ignore[method-assign]
    return guarded_command
