from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from sightx.plugin import Check, Finding
from sightx.registry.checks import STAGES


def test_a_check_is_an_error_of_the_stage_spec_unless_it_says_otherwise() -> None:
    check = Check("my-rule", "because", lambda experiment: [])
    assert (check.stage, check.severity) == ("spec", "error")
    with pytest.raises(FrozenInstanceError):
        check.code = "other"  # type: ignore[misc]


def test_a_finding_needs_a_place_and_a_message() -> None:
    assert Finding("training.epochs", "too many") == ("training.epochs", "too many", "")


def test_stages_are_in_the_order_in_which_they_can_run() -> None:
    assert STAGES == ("spec", "data", "device")
