"""The hooks: the whole contract between SightX and a plugin, beside the kinds of component."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from sightx.registry.checks import Check
from sightx.registry.components import Component

if TYPE_CHECKING:
    import click


hookspec = pluggy.HookspecMarker("sightx")
hookimpl = pluggy.HookimplMarker("sightx")


class PluginHooks:
    """What a plugin may bring."""

    @hookspec
    def sightx_components(self) -> Iterable[type[Component]]:  # type: ignore[empty-body]
        """When the registry is filled: return the component classes that the plugin brings."""

    @hookspec
    def sightx_checks(self) -> Iterable[Check]:  # type: ignore[empty-body]
        """When the registry is filled: return the rules between components that it brings."""

    @hookspec
    def sightx_commands(self) -> Iterable[click.Command]:  # type: ignore[empty-body]
        """When a command is unknown, or help lists all: return the commands that it brings."""
