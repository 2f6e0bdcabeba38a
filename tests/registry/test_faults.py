from __future__ import annotations

from typing import Any

import pytest

from sightx.plugin import Check, Loss
from sightx.registry import faults


class Fine(Loss):
    """Be a loss."""

    name = "fine"


def test_what_is_in_order_has_no_fault() -> None:
    assert faults.component_fault([Fine]) == ""
    assert faults.check_fault([Check("my-rule", "because", print)], {}) == ""


@pytest.mark.parametrize("revision", [0, -1, "1", True, object()])
def test_a_revision_is_a_number_from_1(revision: Any) -> None:
    odd = type("Odd", (Fine,), {"revision": revision, "__doc__": "Be odd."})
    assert faults.component_fault([odd]) == "the loss 'fine' needs a revision of 1 or more"


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("x", "'x' is no check"),
        (Check("My Rule", "r", print), "is no code"),
        (Check("taken", "r", print), "that of a check of other"),
        (Check("a", "r", print, stage="specs"), "the stage 'specs': spec, data, device"),  # type: ignore[arg-type]
        (Check("a", "r", print, severity="warn"), "the severity 'warn'"),  # type: ignore[arg-type]
        (Check("a", "r", None), "finds nothing"),  # type: ignore[arg-type]
    ],
)
def test_a_check_that_could_never_speak_is_refused(check: Any, fault: str) -> None:
    assert fault in faults.check_fault([check], {"taken": "other"})
