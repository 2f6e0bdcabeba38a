"""`sightx test-plugin`: run the contract checks of components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import check_kind

if TYPE_CHECKING:
    from sightx.registry.registry import Entry, Registry


@click.command("test-plugin", short_help="Check components against the contract of their kind.")
@click.argument("name")
@click.option("--kind", callback=check_kind, help="Only components of this kind.")
def command(name: str, kind: str | None) -> int:
    """Check the components NAME: a plugin, a distribution, a component, or `all`.

    A component that needs settings gets those that its static method example(folder) returns.
    """
    from sightx.testing import contract

    registry = load_project_registry()
    entries = _select(registry, name, kind)
    checks = failures = 0
    for entry in entries:
        title = f"{entry.component.kind} {entry.component.name}"
        for result in contract(entry.component):
            checks, failures = checks + 1, failures + (not result.ok)
            click.echo(f"{title}: {result}")
    broken = [plugin for plugin in registry.broken if name == "all"]
    for plugin in broken:
        click.echo(f"plugin {plugin}: fails: {plugin.error}")
    failures += len(broken)
    click.echo(f"{len(entries)} components, {checks} checks, {failures} failures")
    return 4 if failures else 0


def _select(registry: Registry, name: str, kind: str | None) -> list[Entry]:
    """Return the entries with a name. Raise PluginError for a broken plugin, SpecError for none."""
    from sightx.errors import PluginError, Problem, SpecError, did_you_mean

    for plugin in registry.plugins:
        if name in (plugin.name, plugin.distribution) and plugin.state != "loaded":
            message = f"plugin {plugin} at {plugin.place} is {plugin.state}: {plugin.error}"
            raise PluginError(Problem("broken-plugin", message))
    entries = registry.entries(kind)
    names = {entry: _names(entry) for entry in entries}
    if selected := [entry for entry in entries if name == "all" or name in names[entry]]:
        return selected
    known = sorted(set().union(*names.values()))
    message = f"no plugin or component {f'of the kind {kind} ' if kind else ''}is called {name!r}"
    hint = did_you_mean(name, known) or "sightx list-plugins shows the names"
    raise SpecError(Problem("usage", message, hint))


def _names(entry: Entry) -> set[str]:
    plugin = entry.plugin
    return {plugin.name, plugin.distribution, entry.component.name} - {""}
