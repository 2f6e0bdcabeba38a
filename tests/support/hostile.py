"""Components that return what they must not, and the error for it."""

from __future__ import annotations

from typing import Any

import pytest

from sightx.errors import PluginError


def hostile(kind: type, **methods: Any) -> Any:
    """Return a component of a kind; the keywords are what its methods return."""

    def method(value: Any) -> Any:
        return lambda self, *arguments, **named: value

    space = {name: method(value) for name, value in methods.items()}
    for name, function in space.items():
        function.__name__ = name
    return type("X", (kind,), {"__module__": "sx_evil", "name": "x", **space})()


def refused(call: Any, *parts: str) -> None:
    with pytest.raises(PluginError) as caught:
        call()
    (problem,) = caught.value.problems
    assert problem.code == "wrong-result"
    assert "of x (sx_evil)" in problem.message
    assert problem.hint
    assert all(part in str(problem) for part in parts), str(problem)
