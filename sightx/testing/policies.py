"""What schedulers, checkpoints and stopping rules promise: pure functions of the history."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from sightx.plugin import Checkpoint, Scheduler, Stopping
from sightx.testing.demands import Check, demand
from sightx.testing.worlds import history

if TYPE_CHECKING:
    from sightx.plugin import History

_VALUES = (0.5, 0.6, 0.55, 0.7, 0.7, 0.65, 0.6, 0.8)
_PER_EPOCH = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PATIENCE = 60  # epochs after which a rule that waits at all has had its time


def rate_is_a_number(scheduler: Scheduler) -> None:
    """Demand a finite factor, not below 0, at every step, the warm-up included."""
    for warmup in (0.0, 1.0):
        warm = _with_warmup(scheduler, warmup)
        for step in range(3 * _PER_EPOCH):
            found = warm.multiplier(step, **_time(), history=_until(step))
            number = isinstance(found, (int, float)) and math.isfinite(found) and found >= 0
            demand(number, f"the factor at step {step} is {found!r}; return a finite float >= 0")


def factor_is_pure(scheduler: Scheduler) -> None:
    """Demand that the same step gives the same factor, whatever was asked before."""
    steps = range(3 * _PER_EPOCH)
    forward = [_factor(scheduler, step) for step in steps]
    backward = [_factor(scheduler, step) for step in reversed(steps)]
    demand(
        forward == backward[::-1],
        "factor() depends on what was asked before; compute it from step and history alone",
    )


def history_stays(scheduler: Scheduler) -> None:
    """Demand that the history is only read."""
    given = history(*_VALUES)
    scheduler.factor(2 * _PER_EPOCH, **_time(), history=given)
    demand(given == history(*_VALUES), "factor() changes the history; only read it")


def warm_up_is_the_runners(scheduler: Scheduler) -> None:
    """Demand that `factor` leaves the warm-up to `multiplier`, which applies it once."""
    cold, warm = (_with_warmup(scheduler, warmup) for warmup in (0.0, 1.0))
    same = all(_factor(cold, step) == _factor(warm, step) for step in range(3 * _PER_EPOCH))
    demand(same, "factor() depends on warmup, which is applied to it afterwards; leave it out")


def _with_warmup(scheduler: Scheduler, warmup: float) -> Scheduler:
    return scheduler.model_copy(update={"warmup": warmup})


def _time() -> dict[str, int]:
    return {"steps": 3 * _PER_EPOCH, "steps_per_epoch": _PER_EPOCH}


def _until(step: int) -> History:
    return history(*_VALUES[: step // _PER_EPOCH])


def _factor(scheduler: Scheduler, step: int) -> float:
    return scheduler.factor(step, **_time(), history=_until(step))


def names_are_names(checkpoint: Checkpoint) -> None:
    """Demand a collection of names that can stand for a checkpoint."""
    for end in range(1, len(_VALUES) + 1):
        kept = checkpoint.keep(history(*_VALUES[:end]))
        good = isinstance(kept, (set, frozenset, tuple, list))
        demand(good, f"keep() returns {kept!r}; return a set of names, an empty one for none")
        strange = [each for each in kept if not (isinstance(each, str) and _NAME.fullmatch(each))]
        demand(not strange, f"{strange[:1]} is no name; use letters, digits, `.`, `_` and `-`")


def something_is_kept(checkpoint: Checkpoint) -> None:
    """Demand a name for some epoch of a hundred."""
    rising = [number / 100 for number in range(100)]
    kept = any(checkpoint.keep(history(*rising[: end + 1])) for end in range(100))
    demand(kept, "in 100 epochs, each better than the last, nothing is kept")


def keep_is_pure(checkpoint: Checkpoint) -> None:
    """Demand that the same history keeps the same names, and stays as it is."""
    ends = range(1, len(_VALUES) + 1)
    forward = [_kept(checkpoint, *_VALUES[:end]) for end in ends]
    backward = [_kept(checkpoint, *_VALUES[:end]) for end in reversed(ends)]
    demand(forward == backward[::-1], "keep() depends on what was asked before; use history alone")


def nan_is_never_kept(checkpoint: Checkpoint) -> None:
    """Demand that an epoch without a figure gets no name that a bad one would not get."""
    nan, bad = (_kept(checkpoint, *_VALUES, last) for last in (math.nan, 0.01))
    demand(nan <= bad, f"an epoch of NaN is kept as {sorted(nan - bad)}; Series.better knows NaN")


def _kept(checkpoint: Checkpoint, *values: float) -> frozenset[str]:
    given = history(*values)
    kept = frozenset(checkpoint.keep(given))
    demand(str(given) == str(history(*values)), "keep() changes the history; only read it")
    return kept


def reason_is_a_line(stopping: Stopping) -> None:
    """Demand None, or one line that says why training ends."""
    for values in (_VALUES, (0.5,) * _PATIENCE, (math.nan,) * _PATIENCE):
        for end in range(1, len(values) + 1):
            found = stopping.reason(history(*values[:end]))
            line = isinstance(found, str) and found.strip() and "\n" not in found
            demand(found is None or line, f"reason() returns {found!r}; return a line or None")


def reason_is_pure(stopping: Stopping) -> None:
    """Demand that the same history gives the same answer, and stays as it is."""
    ends = range(1, len(_VALUES) + 1)
    forward = [_reason(stopping, *_VALUES[:end]) for end in ends]
    backward = [_reason(stopping, *_VALUES[:end]) for end in reversed(ends)]
    demand(
        forward == backward[::-1], "reason() depends on what was asked before; use history alone"
    )


def nan_is_no_progress(stopping: Stopping) -> None:
    """Demand that epochs without a figure are waited for no longer than bad ones."""
    for count in range(1, _PATIENCE):
        bad, nan = (
            _reason(stopping, *_VALUES, *(last,) * count) is not None for last in (0.01, math.nan)
        )
        demand(
            nan or not bad,
            f"{count} bad epochs stop training, {count} of NaN do not; Series.better knows NaN",
        )


def _reason(stopping: Stopping, *values: float) -> str | None:
    given = history(*values)
    reason = stopping.reason(given)
    demand(str(given) == str(history(*values)), "reason() changes the history; only read it")
    return reason


SCHEDULER: tuple[Check, ...] = (
    rate_is_a_number, factor_is_pure, history_stays, warm_up_is_the_runners,
)  # fmt: skip
CHECKPOINT: tuple[Check, ...] = (
    names_are_names, something_is_kept, keep_is_pure, nan_is_never_kept,
)  # fmt: skip
STOPPING: tuple[Check, ...] = (reason_is_a_line, reason_is_pure, nan_is_no_progress)
