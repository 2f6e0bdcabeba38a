"""Checks of schedulers."""

from __future__ import annotations

import math
from itertools import product

from sightx.plugin import Scheduler, call_declared
from sightx.testing.assertions import ContractCheck, require, require_pure
from sightx.testing.fixtures import history

_ACCURACIES = (0.5, 0.6)
_STEPS_PER_EPOCH = 5
_GROUPS = ("head.*", "loss", "*")
_STEPS = range(3 * _STEPS_PER_EPOCH)


def factor_is_valid(scheduler: Scheduler) -> None:
    """Require a finite factor of at least 0 at every step, with and without warm-up."""
    for warmup, group, step in product((0.0, 1.0), _GROUPS, _STEPS):
        value = _call(_with_warmup(scheduler, warmup), "multiplier", step, group)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_valid = is_number and math.isfinite(value) and value >= 0
        require(is_valid, f"the factor at step {step} is {value!r}; return a finite float >= 0")


def factor_is_pure(scheduler: Scheduler) -> None:
    """Require the same factor for the same step, whatever was called before."""
    require_pure(
        lambda step: [_call(scheduler, "factor", step, group) for group in _GROUPS],
        _STEPS,
        "factor() depends on earlier calls; compute it from step and history alone",
        type(scheduler),
    )


def warmup_is_not_in_factor(scheduler: Scheduler) -> None:
    """Require that `factor` leaves the warm-up to `multiplier`."""
    without, with_warmup = (
        [_call(_with_warmup(scheduler, warmup), "factor", step) for step in _STEPS]
        for warmup in (0.0, 1.0)
    )
    require(
        without == with_warmup, "factor() depends on warmup, which is applied later; leave it out"
    )


def _with_warmup(scheduler: Scheduler, warmup: float) -> Scheduler:
    return scheduler.model_copy(update={"warmup": warmup})


def _call(scheduler: Scheduler, method: str, step: int, group: str = "*") -> float:
    """Call `factor` or `multiplier`, and require that it only reads the history."""
    accuracies = _ACCURACIES[: step // _STEPS_PER_EPOCH]
    given = history(*accuracies)
    value: float = call_declared(
        getattr(scheduler, method),
        step, steps=len(_STEPS), steps_per_epoch=_STEPS_PER_EPOCH, history=given, group=group,
        groups=_GROUPS,
    )  # fmt: skip
    require(given == history(*accuracies), "factor() modifies the history; only read it")
    return value


CHECKS: tuple[ContractCheck, ...] = (factor_is_valid, factor_is_pure, warmup_is_not_in_factor)
