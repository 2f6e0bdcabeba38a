from __future__ import annotations

import inspect

from sightx.plugin import hookimpl
from sightx.registry import hooks

PLUGIN_HOOKS: dict[str, list[str]] = {
    "sightx_checks": [],
    "sightx_commands": [],
    "sightx_components": [],
}


def signatures(owner: type) -> dict[str, list[str]]:
    members = inspect.getmembers(owner, lambda item: hasattr(item, "sightx_spec"))
    return {name: list(inspect.signature(item).parameters)[1:] for name, item in members}


def test_the_contract_is_what_the_design_says() -> None:
    assert signatures(hooks.PluginHooks) == PLUGIN_HOOKS


def test_a_hooks_docstring_begins_with_when() -> None:
    for name in signatures(hooks.PluginHooks):
        assert (getattr(hooks.PluginHooks, name).__doc__ or "").startswith("When "), name


def test_the_public_marker_is_the_one_that_the_hooks_know() -> None:
    assert hookimpl is hooks.hookimpl
