"""Time cases against one another: interleaved rounds, medians, ratios to a named peer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

Case = Callable[[], float]


def medians(cases: Mapping[str, Case], rounds: int) -> dict[str, float]:
    """Return the median of what each case returns; every round asks each of them once, in turn.

    So a slow moment of the machine hits all alike. A first round is not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            value = case()
            if number:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def table(figures: Mapping[str, float], peer: str, unit: str, *, more_is_better: bool) -> str:
    """Return lines of name, figure and how many times as good as the peer it is."""
    rows = [f"{'':<44} {unit:>14} {'times peer':>11}"]
    for name, figure in figures.items():
        times = figure / figures[peer] if more_is_better else figures[peer] / figure
        mark = "  (peer)" if name == peer else ""
        rows.append(f"{name:<44} {figure:>14.5g} {times:>11.3f}{mark}")
    return "\n".join(rows)
