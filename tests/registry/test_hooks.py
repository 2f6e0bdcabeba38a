from __future__ import annotations

import inspect

import pytest

from sightx.plugin import hookimpl
from sightx.registry import hooks

PLUGIN_HOOKS: dict[str, list[str]] = {
    "sightx_checks": [],
    "sightx_commands": [],
    "sightx_components": [],
}
RUN_HOOKS = {
    "sightx_run_started": ["experiment", "run"],
    "sightx_epoch_started": ["run", "epoch"],
    "sightx_step_finished": ["run", "step"],
    "sightx_epoch_finished": ["run", "epoch"],
    "sightx_checkpoint_written": ["run", "checkpoint"],
    "sightx_run_finished": ["run", "result"],
}


def signatures(owner: type) -> dict[str, list[str]]:
    members = inspect.getmembers(owner, lambda item: hasattr(item, "sightx_spec"))
    return {name: list(inspect.signature(item).parameters)[1:] for name, item in members}


def test_the_contract_is_what_the_design_says() -> None:
    assert signatures(hooks.PluginHooks) == PLUGIN_HOOKS
    assert signatures(hooks.RunHooks) == RUN_HOOKS


@pytest.mark.parametrize("owner", [hooks.PluginHooks, hooks.RunHooks])
def test_a_hooks_docstring_begins_with_when(owner: type) -> None:
    for name in signatures(owner):
        assert (getattr(owner, name).__doc__ or "").startswith("When "), name


def test_the_public_marker_is_the_one_that_the_hooks_know() -> None:
    assert hookimpl is hooks.hookimpl
