"""What metrics and decisions promise: functions of a table of predictions."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sightx.plugin import Metric, Postprocess
from sightx.testing.demands import Check, demand
from sightx.testing.worlds import predictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sightx.plugin import Predictions


def state_is_json(decide: Postprocess) -> None:
    """Demand a state that a checkpoint can hold as JSON."""
    state = decide.fit(predictions())
    try:
        again = json.loads(json.dumps(dict(state), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"fit() gives {state!r}, which is no JSON: {error}") from error
    demand(again == dict(state), f"fit() gives {state!r}, which JSON reads as {again!r}")


def fit_repeats(decide: Postprocess) -> None:
    """Demand the same state each time."""
    one, two = (dict(decide.fit(predictions())) for _ in range(2))
    demand(one == two, f"fit() gives {one}, then {two}")


def apply_repeats(decide: Postprocess) -> None:
    """Demand that the same state decides the same."""
    given, state = predictions(seed=1), _state(decide)
    one, two = (decide.apply(given, state) for _ in range(2))
    same = (one.decisions == two.decisions).all() and (one.probabilities == two.probabilities).all()
    demand(same, "apply() differs from call to call; learn in fit(), keep it in the state")


def decisions_are_classes(decide: Postprocess) -> None:
    """Demand positions in the classes and rows that sum to one; of one sample, unlabelled, too."""
    state, many = _state(decide), predictions(seed=1)
    for given in (many, _unlabelled(predictions(1, seed=2))):
        made = decide.apply(given, state)
        demand(made.keys == given.keys, "apply() changes which samples there are")
        shape = made.decisions.shape
        good = shape == (len(given),) and made.decisions.dtype.kind in "iu"
        demand(good, f"decisions are {made.decisions.dtype} {shape}; give integers, one a sample")
        last = len(given.classes) - 1
        inside = ((made.decisions >= 0) & (made.decisions <= last)).all()
        demand(inside, f"decisions {sorted(set(made.decisions.tolist()))} leave 0..{last}")
        sums = made.probabilities.sum(axis=1)
        demand((abs(sums - 1) < 1e-4).all(), f"rows of probabilities sum to {sums.min():.4g}")


def _state(decide: Postprocess) -> Mapping[str, Any]:
    state: Mapping[str, Any] = json.loads(json.dumps(dict(decide.fit(predictions()))))
    return state


def figures_are_declared(metric: Metric) -> None:
    """Demand the names that values() declares, with floats, of any predictions."""
    given = predictions()
    declared = metric.values(given.classes)
    demand(declared, "values() names no figure")
    strange = {way for way in declared.values() if way not in ("max", "min")}
    demand(not strange, f"{strange} is no direction; write 'max' or 'min'")
    found = metric.compute(given)
    extra, missing = set(found) - set(declared), set(declared) - set(found)
    demand(not extra, f"compute() gives {sorted(extra)[:3]}, which values() does not name")
    demand(not missing, f"values() names {sorted(missing)[:3]}, which compute() does not give")
    kinds = {type(value).__name__ for value in found.values()} - {"float"}
    demand(not kinds, f"figures are of type {', '.join(sorted(kinds))}; return floats")


def compute_repeats(metric: Metric) -> None:
    """Demand the same figures each time."""
    one, two = (dict(metric.compute(predictions())) for _ in range(2))
    demand(str(one) == str(two), "compute() differs from call to call")


def perfect_is_best(metric: Metric) -> None:
    """Demand that right answers are nowhere worse than wrong ones, in the declared direction."""
    perfect, wrong = predictions(right=1.0), predictions(right=0.0)
    best, worst = metric.compute(perfect), metric.compute(wrong)
    defined = [key for key in best if not math.isnan(best[key])]
    demand(defined, "of perfect predictions every figure is NaN")
    for key, way in metric.values(perfect.classes).items():
        worse = best[key] < worst[key] if way == "max" else best[key] > worst[key]
        demand(
            not worse,
            f"{key} is {best[key]:.4g} of perfect and {worst[key]:.4g} of wrong predictions, "
            f"and declared {way!r}",
        )


def nothing_is_too_little(metric: Metric) -> None:
    """Demand figures, NaN if need be, where classes, labels or all samples are absent."""
    given = predictions()
    for title, few in (
        ("no sample", predictions(0)),
        ("one sample", predictions(1)),
        ("no label", _unlabelled(given)),
        ("an absent class", _without_last_class(given)),
    ):
        try:
            found = set(metric.compute(few))
        except Exception as error:
            line = f"{type(error).__name__}: {error}"
            raise AssertionError(f"with {title} compute() raises {line}; return NaN") from error
        demand(found == set(metric.values(few.classes)), f"with {title} figures are missing")


def _unlabelled(given: Predictions) -> Predictions:
    import numpy as np

    return replace(given, labels=np.full(len(given), -1))


def _without_last_class(given: Predictions) -> Predictions:
    """Return the predictions with neither labels nor decisions of the last class."""
    import numpy as np

    last = len(given.classes) - 1
    rows = np.flatnonzero((given.labels < last) & (given.decisions < last))
    return replace(
        given,
        keys=tuple(given.keys[row] for row in rows),
        groups=tuple(given.groups[row] for row in rows),
        labels=given.labels[rows],
        outputs=given.outputs[rows],
        probabilities=given.probabilities[rows],
        decisions=given.decisions[rows],
    )


DECIDE: tuple[Check, ...] = (state_is_json, fit_repeats, apply_repeats, decisions_are_classes)
METRIC: tuple[Check, ...] = (
    figures_are_declared, compute_repeats, perfect_is_best, nothing_is_too_little,
)  # fmt: skip
