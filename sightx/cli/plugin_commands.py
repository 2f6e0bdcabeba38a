"""Commands of plugins; plugins are loaded only if a command is unknown, or for help."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from sightx.cli.context import load_project_registry
from sightx.errors import PluginError, Problem, SightXError, SpecError, did_you_mean

if TYPE_CHECKING:
    from sightx.registry.registry import Plugin, Registry

# Commands that are planned, with what does the job today.
_EACH_VALUE = "sightx run SPEC --set KEY=VALUE, once for each value"
PLANNED = dict.fromkeys(("sweep", "tune", "hpo", "search", "optimize"), _EACH_VALUE)
# What other tools call a command.
OTHER_NAMES = {
    "api": "serve",
    "deploy": "serve",
    "clean": "cache --prune",
    "clear": "cache --prune",
    "prune": "cache --prune",
    "components": "list-plugins",
    "datasets": "list-plugins dataset",
    "list-models": "list-plugins model",
    "list-datasets": "list-plugins dataset",
    "convert": "export",
    "onnx": "export",
    "describe": "show-run",
    "status": "show-run",
    "metrics": "show-run",
    "history": "show-run",
    "results": "show-run",
    "print": "show",
    "explain": "predict",
    "gradcam": "predict",
    "inspect": "audit",
    "analyze": "audit",
    "stats": "audit",
    "eda": "audit",
    "plot": "report",
    "plots": "report",
    "summary": "report",
    "rename": "tag",
    "restart": "resume",
    "web": "board",
    "fit": "run",
    "train": "run",
    "start": "run",
    "continue": "resume",
    "test": "evaluate",
    "eval": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "check": "validate",
    "lint": "validate",
    "plugins": "list-plugins",
    "list": "list-runs",
    "ls": "list-runs",
    "runs": "list-runs",
    "rm": "remove-run",
    "remove": "remove-run",
    "delete": "remove-run",
    "log": "show-run",
    "logs": "show-run",
    "info": "show-run",
    "ui": "board",
    "dashboard": "board",
    "tensorboard": "board",
    "env": "doctor",
    "models": "list-plugins model",
    "config": "show",
    "new": "init",
    "create": "init",
    "help": "--help",
    "version": "--version",
}

Provided = list[tuple[click.Command, "Plugin"]]


@dataclass
class PluginCommands:
    """The commands of plugins; `builtin` are the names of SightX's own commands, which win."""

    builtin: Collection[str]

    @cached_property
    def _registry(self) -> Registry:
        return load_project_registry()

    @cached_property
    def _by_name(self) -> dict[str, Provided]:
        """Return the commands by name; a plugin that provides something else is broken."""
        by_name: dict[str, Provided] = {}
        for command, plugin in self._registry.commands():
            if isinstance(command, click.Command) and command.name:
                by_name.setdefault(command.name, []).append((command, plugin))
            else:
                message = f"sightx_commands returned {command!r}, which is not a click command"
                self._registry.mark_broken(plugin, TypeError(message))
        return by_name

    def find(self, name: str) -> click.Command:
        """Return the command with a name.

        Raises SpecError if there is none, PluginError if two plugins provide it, or if a broken
        plugin may provide it.
        """
        provided = self._by_name.get(name, [])
        if len(provided) > 1:
            message = f"the command {name!r} is provided by {_providers(provided)}"
            hint = "remove one, or ask its author to choose another name"
            raise PluginError(Problem("name-clash", message, hint))
        if provided:
            return _with_plugin_failures(*provided[0])
        message = f"no command is called {name!r}"
        if name in PLANNED:
            message = f"{name!r} is not part of this version"
            raise SpecError(Problem("usage", message, PLANNED[name]))
        if name in OTHER_NAMES:
            raise SpecError(Problem("usage", message, f"use sightx {OTHER_NAMES[name]}"))
        if name.endswith(".toml"):
            raise SpecError(Problem("usage", message, f"sightx run {shlex.quote(name)}"))
        close = did_you_mean(name, sorted({*self.builtin, *self._by_name}))
        if not close and (broken := self._registry.broken):
            causes = ", ".join(plugin.status for plugin in broken)
            hint = "add --debug to see the traceback"
            raise PluginError(
                Problem("broken-plugin", f"{message}; plugin {causes}", hint)
            ) from broken[0].cause
        raise SpecError(Problem("usage", message, close or "sightx --help"))

    def help_rows(self) -> list[tuple[str, str]]:
        """Return each name with one line of help, and the plugins that do not work."""
        try:
            by_name = self._by_name
        except SightXError as error:
            return [("", str(error.problems[0]))]
        rows = [(name, self._help(name, provided)) for name, provided in sorted(by_name.items())]
        return rows + [(plugin.name, plugin.status) for plugin in self._registry.broken]

    def _help(self, name: str, provided: Provided) -> str:
        if name in self.builtin:
            return f"refused: sightx has this command; provided by {_providers(provided)}"
        if len(provided) > 1:
            return f"refused: provided by {_providers(provided)}"
        command, plugin = provided[0]
        return f"{command.get_short_help_str(60)} [{plugin}]"


def _providers(provided: Provided) -> str:
    return " and ".join(sorted(f"{plugin} at {plugin.place}" for _, plugin in provided))


def _with_plugin_failures(command: click.Command, plugin: Plugin) -> click.Command:
    """Return a copy of a command whose unexpected exceptions are failures of its plugin.

    An integer that it returns is the exit code, as for SightX's own commands.
    """
    wrapped, invoke = copy.copy(command), command.invoke

    def invoke_guarded(ctx: click.Context) -> int:
        try:
            result = invoke(ctx)
        except (SightXError, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, SystemExit) as error:
            raise _command_failure(command, plugin, error) from error
        return result if isinstance(result, int) and not isinstance(result, bool) else 0

    wrapped.invoke = invoke_guarded  # type: ignore[method-assign]
    return wrapped


def _command_failure(
    command: click.Command, plugin: Plugin, error: Exception | SystemExit
) -> PluginError:
    if isinstance(error, SystemExit):
        message = f"the command {command.name!r} of {plugin} called sys.exit({error.code!r})"
        hint = "click's ctx.exit(3) ends a command with an exit code"
    else:
        cause = plugin.failed(error).error
        message = f"the command {command.name!r} of {plugin} failed: {cause}"
        hint = "add --debug to see its traceback"
    return PluginError(Problem("broken-plugin", message, hint))
