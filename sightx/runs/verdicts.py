"""Which differences between two runs may change results: rules that resume and diff share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

Verdict = Literal["harmless", "changes results", "refused"]
Tables = Mapping[str, Any]

# Settings of [execution] that may change the last digits of results.
_NUMERIC_SETTINGS = {"device", "deterministic", "compile", "cuda_graph", "cache_features"}
ENVIRONMENT: Mapping[str, Verdict] = {
    "python": "harmless",
    "platform": "changes results",
    "packages": "changes results",
    "packages.pandas": "harmless",
    "device": "changes results",
    "processes": "changes results",
    "numerics": "changes results",
    "commit": "harmless",
}
"""Verdicts of the keys of environment.json, and of some keys below them."""
NOTHING = "nothing"
"""Stands for a value that one of two runs lacks."""


def settings_verdict(key: str) -> Verdict:
    """Return the verdict on a setting that is not part of the experiment id."""
    section, _, name = key.partition(".")
    is_numeric = section == "execution" and name in _NUMERIC_SETTINGS
    return "changes results" if is_numeric else "harmless"


def environment_verdict(key: str) -> Verdict:
    """Return the verdict on a key of environment.json, such as packages.torch."""
    return ENVIRONMENT.get(key, ENVIRONMENT[key.partition(".")[0]])


def changed_values(before: Tables, now: Tables) -> list[tuple[str, Any, Any]]:
    """Return each dotted key whose value differs, and its two values."""
    old, new = dict(flatten(before)), dict(flatten(now))
    return [
        (key, old.get(key, NOTHING), new.get(key, NOTHING))
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value in tables and arrays of tables, with its dotted key."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    else:
        yield key, list(value) if isinstance(value, tuple) else value
        return
    for name, item in items:
        yield from flatten(item, f"{key}.{name}" if key else str(name))
