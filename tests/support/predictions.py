"""Predictions that are drawn, for tests of evaluation."""

from __future__ import annotations

import numpy as np

from sightx.plugin import Predictions


def eyes(patients: int = 60, *, seed: int = 0, skill: float = 1.0) -> Predictions:
    """Predictions for two eyes of each patient, whose grades and errors are alike."""
    rng = np.random.default_rng(seed)
    severity = np.repeat(rng.normal(0, 1, patients), 2) + rng.normal(0, 0.3, 2 * patients)
    labels = np.searchsorted([0.2, 0.8, 1.3], severity)
    guess = skill * severity + np.repeat(rng.normal(0, 0.6, patients), 2)
    outputs = -2 * (guess[:, None] - np.array([-0.5, 0.5, 1.0, 1.6])) ** 2
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    return Predictions(
        tuple(f"{row:04}.png" for row in range(2 * patients)),
        tuple(f"patient{row // 2}" for row in range(2 * patients)),
        labels, outputs, probabilities, probabilities.argmax(axis=1), tuple("abcd"), True,
    )  # fmt: skip
