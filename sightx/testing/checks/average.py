"""Checks of averages."""

from __future__ import annotations

from sightx.plugin import Average, call_declared
from sightx.testing.assertions import ContractCheck, require, require_pure
from sightx.testing.fixtures import history

_ACCURACIES = (0.5, 0.6, 0.55)
_STEPS_PER_EPOCH = 5
_STEPS = range(4 * _STEPS_PER_EPOCH)


def share_is_valid(average: Average) -> None:
    """Require a share from 0 to 1 at every step."""
    for step in _STEPS:
        value = _share(average, step)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_valid = is_number and 0 <= value <= 1
        require(is_valid, f"the share at step {step} is {value!r}; return a float from 0 to 1")


def share_is_pure(average: Average) -> None:
    """Require the same share for the same step, whatever was called before."""
    require_pure(
        lambda step: _share(average, step),
        _STEPS,
        "share() depends on earlier calls; compute it from step and history alone",
        type(average),
    )


def first_epoch_has_a_share(average: Average) -> None:
    """Require that the average leaves the initial weights in the first epoch."""
    shares = [_share(average, step) for step in range(_STEPS_PER_EPOCH)]
    require(
        any(shares),
        "no step of the first epoch has a share, so the initial weights would be evaluated;"
        " return 1 until the average begins",
    )


def _share(average: Average, step: int) -> float:
    """Call `share`, and require that it only reads the history."""
    accuracies = _ACCURACIES[: step // _STEPS_PER_EPOCH]
    given = history(*accuracies)
    value: float = call_declared(
        average.share,
        step, steps=len(_STEPS), steps_per_epoch=_STEPS_PER_EPOCH, history=given,
    )  # fmt: skip
    require(given == history(*accuracies), "share() modifies the history; only read it")
    return value


CHECKS: tuple[ContractCheck, ...] = (share_is_valid, share_is_pure, first_epoch_has_a_share)
