"""Run one check on one broken component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sightx.testing.assertions import ContractCheck, run_check


@pytest.fixture
def assert_fails() -> Callable[[ContractCheck, Any, str], None]:
    """Assert that a check fails with one line that contains a text."""

    def assert_one_line(check: ContractCheck, broken: Any, text: str) -> None:
        result = run_check(check, broken)
        assert not result.ok, f"{check.__name__} passes"
        assert text in result.message
        assert "\n" not in result.message

    return assert_one_line
