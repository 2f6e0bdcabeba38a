"""Measure how often 95 % intervals contain the value of the population, in a simulation.

    python benchmarks/coverage.py [--sets 300] [--patients 100 250 1000]

Two photographs per patient share most of the severity and of the errors; 2 % have the worst grade.
Each number is judged on many sets of patients. The bar: 0.92 to 0.98 for every number. Percentiles
of a bootstrap over single photographs, as most papers compute them, are in parentheses.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sightx.builtin.metrics import (
    F1,
    Accuracy,
    BalancedAccuracy,
    Precision,
    Qwk,
    Recall,
    Specificity,
)
from sightx.builtin.probability_metrics import Auc, Brier, Ece, LogLoss, Rps
from sightx.evaluation.binary import BinaryDecision, OperatingPoint
from sightx.evaluation.intervals import Resampled, confidence_intervals, draw_numbers, percentiles
from sightx.plugin import Metric, Predictions
from sightx.registry.metric_results import metric_values

GRADES = ("none", "mild", "moderate", "severe", "proliferative")
SHARES = (0.73, 0.07, 0.15, 0.03, 0.02)
POPULATION, DRAWS, LOW, HIGH = 100_000, 2_000, 0.92, 0.98
DECISION = BinaryDecision(
    positive=GRADES[2:],
    operating_points=(OperatingPoint(name="high-sensitivity", target=0.9, threshold=0.15),),
)
METRICS: list[Metric] = [
    Accuracy(), BalancedAccuracy(), Qwk(), F1(), Recall(), Precision(), Specificity(), Brier(),
    Rps(), LogLoss(), Ece(), Auc(), *DECISION.metrics(),
]  # fmt: skip


def photographs(patients: int, seed: int) -> Predictions:
    """Return predictions for two eyes of each patient, drawn from one population."""
    rng = np.random.default_rng(seed)

    def correlated(share: float) -> np.ndarray:
        common, own = np.repeat(rng.normal(size=patients), 2), rng.normal(size=2 * patients)
        return math.sqrt(share) * common + math.sqrt(1 - share) * own

    severity = correlated(0.85)
    cuts = np.array([0.6128, 0.8416, 1.6449, 2.0537])  # quantiles of a normal distribution: SHARES
    guess = severity + 0.5 * correlated(0.5)
    centres = np.array([-0.3, 0.75, 1.2, 1.85, 2.4])
    outputs = -3 * (guess[:, None] - centres) ** 2 + np.log(SHARES)
    probabilities = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Predictions(
        tuple(f"{seed}-{row}" for row in range(2 * patients)),
        tuple(f"patient{row // 2}" for row in range(2 * patients)),
        np.searchsorted(cuts, severity), outputs, probabilities, probabilities.argmax(axis=1),
        GRADES, True,
    )  # fmt: skip


def by_photograph(predictions: Predictions) -> dict[str, tuple[float, float]]:
    """Return the percentiles of a bootstrap over photographs, of the metrics that have sums."""
    alone = replace(predictions, groups=("",) * len(predictions))
    items = [Resampled(metric, alone) for metric in METRICS if metric.sums(alone) is not None]
    drawn = {k: v for part in draw_numbers(items, DRAWS) for k, v in part.items()}
    return {name: percentiles(numbers, 0.95) for name, numbers in drawn.items()}


def coverage(truth: dict[str, float], patients: int, sets: int) -> dict[str, tuple[float, float]]:
    """Return how often the intervals contain the truth: those of SightX, and the usual ones."""
    ours: dict[str, list[bool]] = defaultdict(list)
    usual: dict[str, list[bool]] = defaultdict(list)
    for number in range(sets):
        given = photographs(patients, seed=1 + number)
        intervals = confidence_intervals(given, METRICS, draws=DRAWS)
        others = by_photograph(given)
        for name, value in truth.items():
            if not math.isnan(intervals[name].value):
                one = intervals[name]
                ours[name].append(one.low <= value <= one.high)
                if name in others:
                    low, high = others[name]
                    usual[name].append(low <= value <= high)
    return {
        name: (
            float(np.mean(ours[name])),
            float(np.mean(usual[name])) if usual[name] else math.nan,
        )
        for name in truth
    }


def report(truth: dict[str, float], patients: Sequence[int], sets: int) -> bool:
    """Print a row per number; return whether all intervals reach the bar."""
    columns = [coverage(truth, count, sets) for count in patients]
    print(f"{sets} sets of patients; by patient (by photograph)")
    print(f"{'':<30} {'truth':>7} " + " ".join(f"{count:>6} patients" for count in patients))
    for name, value in truth.items():
        cells = [
            f"{ours:>7.3f} ({'-' if math.isnan(usual) else f'{usual:.3f}'})"
            for ours, usual in (column[name] for column in columns)
        ]
        print(f"{name:<30} {value:>7.3f} " + " ".join(f"{cell:>15}" for cell in cells))
    values = [ours for column in columns for ours, _ in column.values()]
    inside = sum(LOW <= value <= HIGH for value in values)
    print(f"{inside} of {len(values)} inside; lowest {min(values):.3f}, highest {max(values):.3f}")
    return inside == len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=300)
    parser.add_argument("--patients", type=int, nargs="+", default=[100, 250, 1000])
    arguments = parser.parse_args()
    population = photographs(POPULATION, seed=0)
    truth = {name: v for m in METRICS for name, v in metric_values(m, population).items()}
    is_reached = report(truth, arguments.patients, arguments.sets)
    print("bar reached" if is_reached else f"bar NOT reached: {LOW} to {HIGH}")


if __name__ == "__main__":
    main()
