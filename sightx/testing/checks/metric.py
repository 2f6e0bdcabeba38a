"""Checks of metrics."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sightx.plugin import Metric, call_declared
from sightx.testing.assertions import ContractCheck, require
from sightx.testing.fixtures import columns, predictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from sightx.plugin import Predictions


def values_match_compute(metric: Metric) -> None:
    """Require exactly the names that values() declares, with floats."""
    given = _given(metric)
    declared = metric.values(given.classes)
    require(declared, "values() returns no name")
    invalid = set(declared.values()) - {"max", "min"}
    require(not invalid, f"{invalid} is not a direction; use 'max' or 'min'")
    computed = metric.compute(given)
    extra, missing = set(computed) - set(declared), set(declared) - set(computed)
    require(not extra, f"compute() returns {sorted(extra)[:3]}, which values() does not declare")
    require(not missing, f"values() declares {sorted(missing)[:3]}, which compute() lacks")
    types = {type(value).__name__ for value in computed.values()} - {"float"}
    require(not types, f"compute() returns {', '.join(sorted(types))}; return floats")


def compute_is_deterministic(metric: Metric) -> None:
    """Require the same numbers each time."""
    one, two = (dict(metric.compute(_given(metric))) for _ in range(2))
    require(str(one) == str(two), "compute() differs from call to call")


def perfect_beats_wrong(metric: Metric) -> None:
    """Require that perfect predictions are not worse than wrong ones, in the declared direction."""
    perfect, wrong = _given(metric, accuracy=1.0), _given(metric, accuracy=0.0)
    best, worst = metric.compute(perfect), metric.compute(wrong)
    is_defined = not all(map(math.isnan, best.values()))
    require(is_defined, "for perfect predictions all values are NaN")
    for key, direction in metric.values(perfect.classes).items():
        is_worse = best[key] < worst[key] if direction == "max" else best[key] > worst[key]
        require(
            not is_worse,
            f"{key} is {best[key]:.4g} for perfect and {worst[key]:.4g} for wrong predictions, "
            f"but its direction is {direction!r}",
        )


def edge_cases_are_computed(metric: Metric) -> None:
    """Require numbers, or NaN, if classes, labels or all samples are missing."""
    given = _given(metric)
    for title, few in (
        ("no sample", _given(metric, 0)),
        ("one sample", _given(metric, 1)),
        ("no label", without_labels(given)),
        ("an absent class", _without_last_class(given)),
        ("groups", replace(given, groups=tuple(str(row // 3) for row in range(len(given))))),
    ):
        try:
            names = set(metric.compute(few))
        except Exception as error:
            line = f"{type(error).__name__}: {error}"
            raise AssertionError(f"with {title} compute() raises {line}; return NaN") from error
        require(names == set(metric.values(few.classes)), f"with {title} values are missing")


def sums_give_the_numbers(metric: Metric) -> None:
    """Require that the numbers of all samples, and of parts of them, follow from their sums."""
    import numpy as np

    given = _given(metric)
    sums = call_declared(metric.sums, given)
    if sums is None:
        return
    n, halves = len(given), (np.arange(30), np.arange(30, 60))
    is_valid = isinstance(sums, np.ndarray) and sums.ndim == 2 and len(sums) == n
    require(is_valid, f"sums() of {n} samples must return an array ({n}, S)")
    parts = [given.take(rows) for rows in halves]
    is_same = all(
        np.allclose(call_declared(metric.sums, part), sums[rows])
        for part, rows in zip(parts, halves, strict=True)
    )
    require(is_same, "sums() of a sample depends on the other samples")
    stacked = np.stack([sums[rows].sum(axis=0) for rows in halves])
    numbers = call_declared(metric.of, stacked, classes=given.classes)
    _require_computed(metric, numbers, parts, "of", "sums", "S")


def weights_count_samples(metric: Metric) -> None:
    """Require that a sample of weight 2 counts like two, and one of weight 0 not at all."""
    import numpy as np

    given = predictions()
    weights = np.stack([np.ones(len(given)), np.arange(len(given)) % 3])
    numbers = call_declared(metric.weighted, given, weights.astype(float))
    if numbers is None:
        return
    rows = [np.repeat(np.arange(len(given)), row.astype(int)) for row in weights]
    _require_computed(
        metric, numbers, [given.take(some) for some in rows], "weighted", "weights", "N"
    )


def _require_computed(
    metric: Metric,
    numbers: Mapping[str, np.ndarray[Any, Any]],
    parts: Sequence[Predictions],
    method: str,
    what: str,
    width: str,
) -> None:
    """Require that what a method returns for two rows is what `compute` returns for two parts."""
    import numpy as np

    computed = [metric.compute(part) for part in parts]
    for name in metric.values(parts[0].classes):
        require(name in numbers, f"{method}() lacks {name!r}")
        shape = np.shape(numbers[name])
        require(shape == (2,), f"{method}() returns {shape} for {what} of the shape (2, {width})")
        values = [float(part.get(name, np.nan)) for part in computed]
        is_same = np.allclose(numbers[name], values, equal_nan=True)
        require(is_same, f"{name} is {numbers[name].tolist()} of {what}, but {values} computed")


def intervals_contain_the_numbers(metric: Metric) -> None:
    """Require that each interval contains the number of its name, and grows with the level."""
    import numpy as np

    given = _given(metric)
    sums, positions = call_declared(metric.sums, given), given.group_positions
    if sums is not None:
        totals = np.zeros((positions.max() + 1, np.shape(sums)[1]))
        np.add.at(totals, positions, sums)
        sums = totals
    narrow, wide = (
        call_declared(metric.intervals, given, sums=sums, level=level) for level in (0.5, 0.95)
    )
    values = metric.compute(given)
    for name, (low, high) in wide.items():
        require(name in values, f"intervals() names {name!r}, which compute() lacks")
        value = values[name]
        text = f"({low}, {high})"
        is_inside = low - 1e-9 <= value <= high + 1e-9
        require(is_inside, f"intervals() gives {name} {text}, which does not contain {value}")
        is_wider = high - low >= narrow[name][1] - narrow[name][0]
        require(is_wider, f"the interval of {name} does not grow with the level")


def _given(metric: Metric, n: int = 60, accuracy: float = 0.7) -> Predictions:
    """Return predictions with the column that a metric names."""
    return replace(predictions(n, accuracy=accuracy), columns=columns(metric, n))


def without_labels(given: Predictions) -> Predictions:
    """Return the predictions with unknown labels."""
    import numpy as np

    return replace(given, labels=np.full(len(given), -1))


def _without_last_class(given: Predictions) -> Predictions:
    """Return the predictions with neither labels nor decisions of the last class."""
    import numpy as np

    last = len(given.classes) - 1
    return given.take(np.flatnonzero((given.labels < last) & (given.decisions < last)))


CHECKS: tuple[ContractCheck, ...] = (
    values_match_compute, compute_is_deterministic, perfect_beats_wrong, edge_cases_are_computed,
    sums_give_the_numbers, weights_count_samples, intervals_contain_the_numbers,
)  # fmt: skip
