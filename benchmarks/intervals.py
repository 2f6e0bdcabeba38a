"""Measure intervals over patients: 10,000 draws of six metrics against a loop over scikit-learn.

    python benchmarks/intervals.py [--patients 2500] [--draws 10000]

Both compute the same draws, and their numbers are compared. The bar: 40 times as fast as the peer.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Mapping

import numpy as np
from coverage import photographs
from rounds import medians, table
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    precision_recall_fscore_support,
)

from sightx.builtin.metrics import F1, Accuracy, BalancedAccuracy, Precision, Qwk, Recall
from sightx.evaluation.intervals import Resampled, draw_counts, draw_numbers
from sightx.plugin import Predictions

METRICS = [Accuracy(), BalancedAccuracy(), Precision(), Recall(), F1(), Qwk()]
PEER_DRAWS, ROUNDS, BAR, TOLERANCE = 60, 5, 40, 1e-12


def scikit_learn(predictions: Predictions, draws: int) -> dict[str, list[float]]:
    """Return the six numbers of each draw of patients, one draw after another."""
    positions, values = predictions.group_positions, dict[str, list[float]]()
    seed = hashlib.sha256("\0".join(predictions.keys).encode()).hexdigest()
    counts = np.concatenate(list(draw_counts(positions.max() + 1, draws, seed)))
    classes = range(len(predictions.classes))
    for row in counts:
        rows = np.repeat(np.arange(len(positions)), row[positions].astype(int))
        labels, decided = predictions.labels[rows], predictions.decisions[rows]
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels, decided, labels=classes, average="macro", zero_division=0
        )
        numbers = {
            "accuracy": accuracy_score(labels, decided),
            "balanced-accuracy": balanced_accuracy_score(labels, decided),
            "precision": precision, "recall": recall, "f1": f1,
            "qwk": cohen_kappa_score(labels, decided, labels=classes, weights="quadratic"),
        }  # fmt: skip
        for name, number in numbers.items():
            values.setdefault(name, []).append(float(number))
    return values


def sightx_numbers(predictions: Predictions, draws: int) -> Mapping[str, np.ndarray]:
    resampled = [Resampled(metric, predictions) for metric in METRICS]
    return {k: v for part in draw_numbers(resampled, draws) for k, v in part.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=2500)
    parser.add_argument("--draws", type=int, default=10_000)
    arguments = parser.parse_args()
    given = photographs(arguments.patients, seed=0)

    def timed_sightx() -> float:
        started = time.process_time()
        sightx_numbers(given, arguments.draws)
        return time.process_time() - started

    def timed_peer() -> float:
        started = time.process_time()
        scikit_learn(given, PEER_DRAWS)
        return (time.process_time() - started) * arguments.draws / PEER_DRAWS

    names = {"scikit-learn, one draw after another": timed_peer, "sightx": timed_sightx}
    results = medians(names, ROUNDS)
    print(f"{len(given):,} samples of {arguments.patients:,} patients, {arguments.draws:,} draws;")
    print(f"the peer computes {PEER_DRAWS} of them, and its seconds are multiplied")
    print(table(results, next(iter(names)), "CPU seconds", more_is_better=False))
    expected, own = scikit_learn(given, PEER_DRAWS), sightx_numbers(given, PEER_DRAWS)
    largest = max(float(np.abs(own[name] - expected[name]).max()) for name in expected)
    peer, ours = results.values()
    print(f"largest difference on the same draws: {largest:.1e}")
    is_reached = peer / ours >= BAR and largest <= TOLERANCE
    print("bar reached" if is_reached else f"bar NOT reached: {BAR} times as fast, equal")


if __name__ == "__main__":
    main()
