"""Checks of stopping rules."""

from __future__ import annotations

import math

from sightx.plugin import Stopping
from sightx.testing.assertions import ContractCheck, require, require_pure
from sightx.testing.fixtures import history

_ACCURACIES = (0.5, 0.6, 0.55, 0.7, 0.7, 0.65, 0.6, 0.8)
_LONG = 60  # Longer than the patience of most rules.


def reason_is_one_line(stopping: Stopping) -> None:
    """Require None, or one line that says why training stops."""
    for accuracies in (_ACCURACIES, (0.5,) * _LONG, (math.nan,) * _LONG):
        for epoch in range(1, len(accuracies) + 1):
            reason = stopping.reason(history(*accuracies[:epoch]))
            is_line = isinstance(reason, str) and reason.strip() and "\n" not in reason
            require(
                reason is None or is_line, f"reason() returns {reason!r}; return one line or None"
            )


def reason_is_pure(stopping: Stopping) -> None:
    """Require the same answer for the same history, and an unmodified history."""
    require_pure(
        lambda epoch: _reason(stopping, *_ACCURACIES[:epoch]),
        range(1, len(_ACCURACIES) + 1),
        "reason() depends on earlier calls; use history alone",
        type(stopping),
    )


def nan_is_no_improvement(stopping: Stopping) -> None:
    """Require that epochs without a metric stop training no later than bad epochs."""
    for count in range(1, _LONG):
        bad, nan = (
            _reason(stopping, *_ACCURACIES, *(last,) * count) is not None
            for last in (0.01, math.nan)
        )
        require(
            nan or not bad,
            f"{count} bad epochs stop training, {count} of NaN do not; use Series.better",
        )


def _reason(stopping: Stopping, *accuracies: float) -> str | None:
    given = history(*accuracies)
    reason = stopping.reason(given)
    require(str(given) == str(history(*accuracies)), "reason() modifies the history; only read it")
    return reason


CHECKS: tuple[ContractCheck, ...] = (reason_is_one_line, reason_is_pure, nan_is_no_improvement)
