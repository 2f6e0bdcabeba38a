"""The final metrics of a run as a table of texts: the console and `sightx show-run` print it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def metric_rows(result: Mapping[str, Any], split: str) -> list[list[str]]:
    """Return a header and a row per metric of a split, without those of single classes.

    Next to the value stand its 95 % interval, the value of always predicting the largest class, and
    the value without test-time augmentation if there is any.

    Args:
        result: The result of a run, as result.json has it.
        split: The split, validation or test.
    """
    columns = {"95 % interval": "intervals", "largest class": "baselines"}
    if any(name.startswith(f"{split}/") for name in result.get("without_tta", {})):
        columns["without augmentation"] = "without_tta"
    rows = [["metric", "value", *columns]]
    for name, value in result[split].items():
        if name.count("/") == 1:
            others = [_cell(result.get(key, {}).get(name)) for key in columns.values()]
            rows.append([name.partition("/")[2], _cell(value) or "-", *others])
    return rows


def _cell(value: float | Sequence[float] | None) -> str:
    """Return a number, the limits of an interval, or nothing."""
    if value is None:
        return ""
    if isinstance(value, Sequence):
        low, high = value
        return "" if low is None or high is None else interval_text(low, high)
    return number_text(value)


def interval_text(low: float, high: float, digits: int = 4) -> str:
    """Return the limits of an interval, nothing if it is undefined."""
    if math.isnan(low) or math.isnan(high):
        return ""
    if low == high:  # a bootstrap says nothing more
        return "all draws agree"
    return f"{low:.{digits}f} to {high:.{digits}f}"


def number_text(value: float) -> str:
    """Return a metric with four digits, "-" for NaN."""
    return "-" if math.isnan(value) else f"{value:.4f}"
