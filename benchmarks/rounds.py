"""Compare the speed of cases: interleaved rounds, medians, ratios to a named peer."""

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
    """Return the median of the numbers that each case returns; every round calls each case once.

    So a slow moment of the machine affects all cases. The first round is a warm-up.
    """
    values: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            value = case()
            if number:
                values[name].append(value)
    return {name: statistics.median(numbers) for name, numbers in values.items()}


def wall_time(command: Sequence[str], folder: Path = ROOT, **variables: str) -> float:
    """Return the seconds that a command takes in a folder, with this checkout's package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as when installed
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def table(results: Mapping[str, float], peer: str, unit: str, *, more_is_better: bool) -> str:
    """Return a line per case: name, result, and how many times as good as the peer it is."""
    rows = [f"{'':<44} {unit:>14} {'times peer':>11}"]
    for name, result in results.items():
        times = result / results[peer] if more_is_better else results[peer] / result
        mark = "  (peer)" if name == peer else ""
        rows.append(f"{name:<44} {result:>14.5g} {times:>11.3f}{mark}")
    return "\n".join(rows)
