from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError

import pytest

from sightx.plugin import Check, Finding, hookimpl
from sightx.registry import hooks

PLUGIN_HOOKS: dict[str, list[str]] = {
    "sightx_checks": [],
    "sightx_commands": [],
    "sightx_components": [],
}


def signatures(owner: type) -> dict[str, list[str]]:
    members = inspect.getmembers(owner, lambda item: hasattr(item, "sightx_spec"))
    return {name: list(inspect.signature(item).parameters)[1:] for name, item in members}


def test_the_hooks_are_those_of_the_design() -> None:
    assert signatures(hooks.PluginHooks) == PLUGIN_HOOKS


def test_the_docstring_of_a_hook_begins_with_when() -> None:
    for name in signatures(hooks.PluginHooks):
        assert (getattr(hooks.PluginHooks, name).__doc__ or "").startswith("When "), name


def test_the_public_marker_is_that_of_the_hooks() -> None:
    assert hookimpl is hooks.hookimpl


def test_a_check_is_an_error_of_the_stage_spec_by_default() -> None:
    check = Check("my-rule", "because", lambda experiment: [])
    assert (check.stage, check.severity) == ("spec", "error")
    with pytest.raises(FrozenInstanceError):
        check.code = "other"  # type: ignore[misc]


def test_a_finding_needs_a_key_and_a_message() -> None:
    assert Finding("training.epochs", "too many") == ("training.epochs", "too many", "", ())


def test_stages_are_in_the_order_in_which_they_run() -> None:
    assert hooks.STAGES == ("spec", "data", "device", "audit")
