"""The recorded origins of runs and of components: what tells two versions of one apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BUILTIN = "sightx.builtin"
"""The module of the components that ship."""


def is_imported(environment: Mapping[str, Any]) -> bool:
    """Return whether an environment.json is that of a table of metrics from elsewhere."""
    return "imported" in environment


def compared_keys(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a component's record that tell whether its results may have changed.

    For built-ins it is only the revision, which is raised whenever results change.
    """
    is_builtin = record["module"].startswith(f"{BUILTIN}.")
    return ("revision",) if is_builtin else ("revision", "version", "sha256")


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the compared keys in which two records of a component differ."""
    return [key for key in compared_keys(now) if before[key] != now[key]]


def describe_change(before: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return in words how two records of a component differ in some keys; hashes are not shown."""
    changes = [
        f"{key} {before[key] or '-'} then, {now[key] or '-'} now" for key in keys if key != "sha256"
    ]
    details = ", ".join(changes) or "its source is different"
    return f"the {now['kind']} {now['name']!r} of {now['plugin']} has changed: {details}"
