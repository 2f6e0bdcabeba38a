"""Paired comparisons against the closed form, and folded seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sightx import Run, RunError
from sightx.builtin.metrics import Accuracy
from sightx.plugin import Predictions
from sightx.run_registry.comparison import compare_runs
from sightx.runs import predictions
from support.run_folders import write_run

SAMPLES = 600


def make_run(
    root: Path,
    name: str,
    correct: np.ndarray,
    settings: dict[str, object],
    *,
    order: np.ndarray | None = None,
    groups: int = SAMPLES,
) -> Run:
    labels = np.zeros(SAMPLES, dtype=int)
    decisions = np.where(correct, 0, 1)
    probabilities = np.eye(2)[decisions]
    table = Predictions(
        tuple(f"{n}.png" for n in range(SAMPLES)), tuple(f"g{n % groups}" for n in range(SAMPLES)),
        labels, probabilities, probabilities, decisions, ("dark", "light"),
    )  # fmt: skip
    directory = write_run(root, name, settings, whole=True)
    predictions.write(directory, "test", table if order is None else table.take(order), "step-1")
    return Run(directory)


def test_the_interval_of_a_difference_is_that_of_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first = rng.random(SAMPLES) < 0.7
    second = first | (rng.random(SAMPLES) < 0.2)
    runs = [
        make_run(tmp_path, "a", first, {"optimizer.lr": 0.1}),
        make_run(tmp_path, "b", second, {"optimizer.lr": 0.2}, order=rng.permutation(SAMPLES)),
    ]
    comparison = compare_runs(runs, [Accuracy()])
    _, other = comparison.candidates
    difference = other.differences["accuracy"]
    pairs = second.astype(float) - first
    error = pairs.std() / np.sqrt(SAMPLES)
    assert difference.value == pytest.approx(pairs.mean())
    assert difference.low == pytest.approx(pairs.mean() - 1.96 * error, abs=0.2 * error)
    assert difference.high == pytest.approx(pairs.mean() + 1.96 * error, abs=0.2 * error)
    assert difference.is_better is True
    assert difference.detectable == pytest.approx(2.8 * error, rel=0.2)
    assert (comparison.samples, comparison.groups) == (SAMPLES, SAMPLES)
    back = compare_runs(runs[::-1], [Accuracy()]).candidates[1].differences["accuracy"]
    assert back.is_better is False


def test_a_difference_that_no_draw_changes_has_no_interval(tmp_path: Path) -> None:
    correct = np.ones(SAMPLES, dtype=bool)
    runs = [make_run(tmp_path, f"{lr}", correct, {"optimizer.lr": lr}) for lr in (0.1, 0.2)]
    _, other = compare_runs(runs, [Accuracy()]).candidates
    assert other.to_json()["differences"]["accuracy"] == {
        "value": 0.0, "low": None, "high": None, "is_better": None,
        "reason": "every resample gives the same difference",
    }  # fmt: skip


def test_seeds_are_folded_and_their_spread_widens_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    base = rng.random(SAMPLES) < 0.7

    def seeds(name: str, rates: tuple[float, ...], lr: float) -> list[Run]:
        return [
            make_run(
                tmp_path, f"{name}{n}", base | (rng.random(SAMPLES) < rate),
                {"seed": n, "optimizer.lr": lr},
            )
            for n, rate in enumerate(rates)
        ]  # fmt: skip

    runs = [*seeds("a", (0.0, 0.3, 0.1), 0.1), *seeds("b", (0.1, 0.4, 0.3), 0.2)]
    one_each = compare_runs([runs[1], runs[4]], [Accuracy()]).candidates[1].differences["accuracy"]
    first, second = compare_runs(runs, [Accuracy()]).candidates
    spread = second.metrics["accuracy"]
    values = [run.predictions_of("test").decisions == 0 for run in runs[3:]]  # type: ignore[union-attr]
    accuracies = [value.mean() for value in values]
    assert spread == (
        pytest.approx(np.mean(accuracies)),
        pytest.approx(np.std(accuracies, ddof=1)),
        3,
    )
    assert len(first.runs) == 3
    difference = second.differences["accuracy"]
    assert difference.high - difference.low > one_each.high - one_each.low
    assert difference.is_better is None  # the seeds differ more than the settings


def test_patients_are_drawn_not_images(tmp_path: Path) -> None:
    correct = np.arange(SAMPLES) % 20 < 14  # all images of a patient are right or wrong
    better = np.arange(SAMPLES) % 20 < 16
    widths = []
    for groups in (20, SAMPLES):
        runs = [
            make_run(
                tmp_path, f"{groups}a", correct, {"seed": 1, "optimizer.lr": 0.1}, groups=groups
            ),
            make_run(
                tmp_path, f"{groups}b", better, {"seed": 1, "optimizer.lr": 0.2}, groups=groups
            ),
        ]
        difference = compare_runs(runs, [Accuracy()]).candidates[1].differences["accuracy"]
        widths.append(difference.high - difference.low)
    assert widths[0] > 4 * widths[1]


def test_other_samples_are_refused(tmp_path: Path) -> None:
    correct = np.ones(SAMPLES, dtype=bool)
    first = make_run(tmp_path, "a", correct, {})
    fewer = make_run(tmp_path, "b", correct, {"seed": 1}, order=np.arange(10, SAMPLES))
    with pytest.raises(RunError, match="its test samples are not those of 20260131-a: 10 differ"):
        compare_runs([first, fewer], [Accuracy()])
    nothing = Run(write_run(tmp_path, "c"))
    with pytest.raises(RunError, match="it has no predictions of test; sightx evaluate"):
        compare_runs([first, nothing], [Accuracy()])
