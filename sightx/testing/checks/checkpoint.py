"""Checks of checkpoint rules."""

from __future__ import annotations

import math
import re

from sightx.plugin import Checkpoint
from sightx.testing.assertions import ContractCheck, require, require_pure
from sightx.testing.fixtures import history

_ACCURACIES = (0.5, 0.6, 0.55, 0.7, 0.7, 0.65, 0.6, 0.8)
_EPOCHS = range(1, len(_ACCURACIES) + 1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def names_are_valid(checkpoint: Checkpoint) -> None:
    """Require a collection of valid checkpoint names."""
    for epoch in _EPOCHS:
        names = checkpoint.keep(history(*_ACCURACIES[:epoch]))
        is_collection = isinstance(names, (set, frozenset, tuple, list))
        require(is_collection, f"keep() returns {names!r}; return a set of names, or an empty set")
        invalid = [n for n in names if not (isinstance(n, str) and _NAME.fullmatch(n))]
        require(not invalid, f"{invalid[:1]} is not a name; use letters, digits, `.`, `_` and `-`")


def some_epoch_is_kept(checkpoint: Checkpoint) -> None:
    """Require a name for at least one of a hundred epochs, and `best_name` among the names."""
    rising = [epoch / 100 for epoch in range(100)]
    names = {name for end in range(1, 101) for name in checkpoint.keep(history(*rising[:end]))}
    require(names, "in 100 epochs, each better than the last, nothing is kept")
    best = checkpoint.best_name
    require(not best or best in names, f"best_name is {best!r}, but keep() never returns it")


def keep_is_pure(checkpoint: Checkpoint) -> None:
    """Require the same names for the same history, and an unmodified history."""
    require_pure(
        lambda epoch: _keep(checkpoint, *_ACCURACIES[:epoch]),
        _EPOCHS,
        "keep() depends on earlier calls; use history alone",
        type(checkpoint),
    )


def nan_is_never_kept(checkpoint: Checkpoint) -> None:
    """Require that an epoch without a metric gets no name that a bad epoch would not get."""
    nan, bad = (_keep(checkpoint, *_ACCURACIES, last) for last in (math.nan, 0.01))
    require(nan <= bad, f"an epoch of NaN is kept as {sorted(nan - bad)}; use Series.better")


def _keep(checkpoint: Checkpoint, *accuracies: float) -> frozenset[str]:
    given = history(*accuracies)
    names = frozenset(checkpoint.keep(given))
    require(str(given) == str(history(*accuracies)), "keep() modifies the history; only read it")
    return names


CHECKS: tuple[ContractCheck, ...] = (
    names_are_valid, some_epoch_is_kept, keep_is_pure, nan_is_never_kept,
)  # fmt: skip
