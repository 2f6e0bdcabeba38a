"""Errors that are one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sightx.errors import LINE_LIMIT, DataError, Problem


def problem_of(call: Callable[..., object], *arguments: Any, **options: Any) -> Problem:
    """Return the one problem of the DataError that a call raises."""
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    (problem,) = caught.value.problems
    assert len(str(problem)) <= LINE_LIMIT
    assert "\n" not in str(problem)
    return problem
