"""Checks of postprocessing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sightx.plugin import Postprocess
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.checks.metric import without_labels
from sightx.testing.fixtures import predictions

if TYPE_CHECKING:
    from collections.abc import Mapping


def state_is_json(postprocess: Postprocess) -> None:
    """Require a state that JSON can hold."""
    state = postprocess.fit(predictions())
    try:
        again = json.loads(json.dumps(dict(state), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"fit() returns {state!r}, which is not JSON: {error}") from error
    require(again == dict(state), f"fit() returns {state!r}, which JSON reads as {again!r}")


def fit_is_deterministic(postprocess: Postprocess) -> None:
    """Require the same state each time."""
    one, two = (dict(postprocess.fit(predictions())) for _ in range(2))
    require(one == two, f"fit() returns {one}, then {two}")


def apply_is_deterministic(postprocess: Postprocess) -> None:
    """Require the same result for the same state."""
    given, state = predictions(seed=1), _state(postprocess)
    one, two = (postprocess.apply(given, state) for _ in range(2))
    same = (one.decisions == two.decisions).all() and (one.probabilities == two.probabilities).all()
    require(same, "apply() differs from call to call; fit in fit(), keep the result in the state")


def decisions_are_classes(postprocess: Postprocess) -> None:
    """Require valid decisions and probabilities, also for one sample without a label."""
    state, many = _state(postprocess), predictions(seed=1)
    for given in (many, without_labels(predictions(1, seed=2))):
        result = postprocess.apply(given, state)
        require(result.keys == given.keys, "apply() changes the samples")
        decisions, last = result.decisions, len(given.classes) - 1
        is_valid = decisions.shape == (len(given),) and decisions.dtype.kind in "iu"
        form = f"{decisions.dtype} {decisions.shape}"
        require(is_valid, f"decisions are {form}; return integers (N,)")
        is_valid = ((decisions >= 0) & (decisions <= last)).all()
        values = sorted(set(decisions.tolist()))
        require(is_valid, f"decisions {values} are outside of 0..{last}")
        sums = result.probabilities.sum(axis=1)
        require((abs(sums - 1) < 1e-4).all(), f"rows of probabilities sum to {sums.min():.4g}")


def calibrate_equals_apply(postprocess: Postprocess) -> None:
    """Require that exported networks compute the probabilities of `apply`."""
    import torch

    given, state = predictions(seed=1), _state(postprocess)
    expected = postprocess.apply(given, state).probabilities
    probabilities = torch.from_numpy(given.probabilities.astype("float32"))
    difference = abs(postprocess.calibrate(probabilities, state).numpy() - expected).max()
    require(difference <= 1e-5, f"calibrate() differs from apply() by {difference:.2g}")


def _state(postprocess: Postprocess) -> Mapping[str, Any]:
    state: Mapping[str, Any] = json.loads(json.dumps(dict(postprocess.fit(predictions()))))
    return state


CHECKS: tuple[ContractCheck, ...] = (
    state_is_json, fit_is_deterministic, apply_is_deterministic, decisions_are_classes,
    calibrate_equals_apply,
)  # fmt: skip
