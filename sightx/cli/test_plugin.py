"""`sightx test-plugin`: run the contract checks of components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sightx.cli.context import load_project_registry
from sightx.cli.options import check_kind
from sightx.errors import PluginError, counted

if TYPE_CHECKING:
    from sightx.registry.registry import Plugin, Registry


@click.command("test-plugin", short_help="Check components against the contract of their kind.")
@click.argument("name")
@click.option("--kind", callback=check_kind, help="Only components of this kind.")
def command(name: str, kind: str | None) -> int:
    """Check NAME: a plugin, a distribution, a component, a check, a command, or `all`.

    A component that needs settings gets those that its static method example(folder) returns.
    """
    from sightx.testing import contract

    registry = load_project_registry()
    subjects = _select(registry, name, kind)
    checks = failures = 0
    for subject in subjects:
        for result in contract(subject.content):
            checks, failures = checks + 1, failures + (not result.ok)
            click.echo(f"{subject.kind} {subject.name}: {result}")
    broken = [plugin for plugin in registry.broken if name == "all"]
    for plugin in broken:
        click.echo(f"plugin {plugin}: fails: {plugin.error}")
    failures += len(broken)
    click.echo(f"{_count(subjects)}, {counted(checks, 'check')}, {counted(failures, 'failure')}")
    return PluginError.exit_code if failures else 0


@dataclass(frozen=True)
class _Subject:
    """What is tested: a component class, a `Check` or a click command, and its plugin."""

    kind: str
    name: str
    content: Any
    plugin: Plugin

    @property
    def names(self) -> set[str]:
        return {self.plugin.name, self.plugin.distribution, self.name} - {""}


def _count(subjects: list[_Subject]) -> str:
    """Return `2 components`, and rules and commands if there are any."""
    rules, commands = ([s for s in subjects if s.kind == kind] for kind in ("check", "command"))
    counts = {"component": len(subjects) - len(rules) - len(commands)}
    counts |= {"rule": len(rules), "command": len(commands)}
    return ", ".join(counted(n, noun) for noun, n in counts.items() if n or noun == "component")


def _subjects(registry: Registry, kind: str | None) -> Iterator[_Subject]:
    """Yield everything that can be tested; with a kind only components of that kind."""
    for entry in registry.entries(kind):
        cls = entry.component
        yield _Subject(cls.kind, cls.name, cls, entry.plugin)
    if kind is None:
        for rule, plugin in registry.checks:
            yield _Subject("check", rule.code, rule, plugin)
        for command, plugin in registry.commands():
            yield _Subject("command", str(getattr(command, "name", "?")), command, plugin)


def _select(registry: Registry, name: str, kind: str | None) -> list[_Subject]:
    """Return what has a name. Raise PluginError for a broken plugin, SpecError for nothing."""
    from sightx.errors import Problem, SpecError, did_you_mean

    for plugin in registry.plugins:
        if name in (plugin.name, plugin.distribution) and plugin.state != "loaded":
            message = f"plugin {plugin} at {plugin.place} is {plugin.state}: {plugin.error}"
            raise PluginError(Problem("broken-plugin", message))
    subjects = list(_subjects(registry, kind))
    if selected := [subject for subject in subjects if name == "all" or name in subject.names]:
        return selected
    known = sorted(set().union(*(subject.names for subject in subjects)))
    message = f"no plugin or component {f'of the kind {kind} ' if kind else ''}is called {name!r}"
    hint = did_you_mean(name, known) or "sightx list-plugins shows the names"
    if registry.broken:
        causes = ", ".join(plugin.status for plugin in registry.broken)
        raise PluginError(Problem("broken-plugin", f"{message}; plugin {causes}", hint))
    raise SpecError(Problem("usage", message, hint))
