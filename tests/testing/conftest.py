"""Let one check look at one broken component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sightx.testing.demands import Check, find


@pytest.fixture
def caught() -> Callable[[Check, Any, str], None]:
    """Demand that a check finds a fault and says so in one line that holds some words."""

    def catch(check: Check, broken: Any, words: str) -> None:
        finding = find(check, broken)
        assert not finding.ok, f"{check.__name__} did not see it"
        assert words in finding.message
        assert "\n" not in finding.message

    return catch
