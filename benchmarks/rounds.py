"""Time cases against one another: interleaved rounds, medians, ratios to a named peer."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

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


def wall(command: Sequence[str], folder: Path = ROOT, **variables: str) -> float:
    """Return the wall seconds of a command in a folder, with this checkout's package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed, nothing is compiled again
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def table(figures: Mapping[str, float], peer: str, unit: str, *, more_is_better: bool) -> str:
    """Return lines of name, figure and how many times as good as the peer it is."""
    rows = [f"{'':<44} {unit:>14} {'times peer':>11}"]
    for name, figure in figures.items():
        times = figure / figures[peer] if more_is_better else figures[peer] / figure
        mark = "  (peer)" if name == peer else ""
        rows.append(f"{name:<44} {figure:>14.5g} {times:>11.3f}{mark}")
    return "\n".join(rows)
