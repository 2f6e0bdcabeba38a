"""Check what metrics return where it enters the core: names, sums and numbers.

See `results` for the other kinds. Each function raises PluginError, code wrong-result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from sightx.errors import did_you_mean
from sightx.records.history import Direction
from sightx.registry.components import call_declared
from sightx.registry.kinds import Metric
from sightx.registry.results import shape_text, short_repr, wrong_result

if TYPE_CHECKING:
    from sightx.records.predictions import Predictions

Array = np.ndarray[Any, Any]


def metric_directions(metric: Metric, classes: Sequence[str]) -> Mapping[str, Direction]:
    """Return the names of a metric's numbers, each with the direction that is better."""
    return directions(metric.values, classes)


def directions(method: Callable[..., Any], *args: Any) -> Mapping[str, Direction]:
    """Return the names of numbers, each with the direction that is better, from a method."""
    values = call_declared(method, *args)
    is_valid = isinstance(values, Mapping) and all(
        isinstance(name, str)
        and name.isprintable()
        and name.strip() == name != ""
        and direction in ("max", "min")
        for name, direction in values.items()
    )
    if not is_valid:
        hint = 'map each name, printable text, to "max" or "min"'
        raise wrong_result(method, f"returned {short_repr(values)}", hint)
    return dict(values)


def metric_values(metric: Metric, predictions: Predictions) -> dict[str, float]:
    """Return a metric's numbers: exactly those that its `values` names."""
    names = metric_directions(metric, predictions.classes)
    has_own = type(metric).compute is not Metric.compute
    if has_own or (sums := metric_sums(metric, predictions)) is None:
        return numbers(names, metric.compute, predictions)
    totals = numbers_of(metric, sums.sum(axis=0), predictions.classes)
    return {name: float(total) for name, total in totals.items()}


def numbers(names: Collection[str], method: Callable[..., Any], *args: Any) -> dict[str, float]:
    """Return the numbers of a method: exactly those with these names."""
    values = call_declared(method, *args)
    if not isinstance(values, Mapping):
        raise wrong_result(method, f"returned {short_repr(values)}", "return a float per name")
    for name in [*values, *names]:
        if name not in names:
            hint = did_you_mean(str(name), names) or "values() names every number"
            raise wrong_result(method, f"returned {name!r}, which values() does not name", hint)
        if name not in values:
            raise wrong_result(method, f"did not return {name!r}", "return NaN if undefined")
        if isinstance(values[name], bool) or not isinstance(values[name], Real):
            message = f"returned {short_repr(values[name])} for {name!r}"
            raise wrong_result(method, message, "return a float, NaN if it is undefined")
    return {name: float(value) for name, value in values.items()}


def metric_sums(metric: Metric, predictions: Predictions) -> Array | None:
    """Return what each sample adds to the sums of a metric, float (N, S); None without sums."""
    sums = call_declared(metric.sums, predictions)
    if sums is not None and (np.ndim(sums) != 2 or len(sums) != len(predictions)):
        message = f"returned {shape_text(sums)} for {len(predictions)} samples"
        raise wrong_result(metric.sums, message, "return an array (N, S), or None")
    return None if sums is None else np.asarray(sums, dtype=np.float64)


def numbers_of(metric: Metric, sums: Array, classes: Sequence[str]) -> dict[str, Array]:
    """Return the numbers of a metric, (...) each, from sums (..., S)."""
    names = metric_directions(metric, classes)
    numbers = call_declared(metric.of, sums, classes=classes)
    return arrays(names, metric.of, numbers, sums.shape[:-1])


def arrays(
    names: Collection[str], method: Callable[..., Any], numbers: Any, shape: tuple[int, ...]
) -> dict[str, Array]:
    """Return what a method returned as arrays of this shape: exactly those with these names."""
    is_valid = isinstance(numbers, Mapping) and numbers.keys() == set(names)
    if not is_valid or any(np.shape(number) != shape for number in numbers.values()):
        form = f"an array {shape}" if shape else "a number"
        raise wrong_result(
            method, "returned no such numbers", f"return {form} for each name of values()"
        )
    return {name: np.asarray(number) for name, number in numbers.items()}
