"""Intervals against loops over scikit-learn and scipy, on the same draws."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from sightx.builtin.metrics import F1, Accuracy, BalancedAccuracy, Precision, Qwk, Recall
from sightx.builtin.probability_metrics import Auc, Brier, Ece, LogLoss, Rps
from sightx.errors import PluginError
from sightx.evaluation.intervals import (
    RESAMPLED_DRAWS,
    Resampled,
    confidence_intervals,
    draw_counts,
    draw_numbers,
    paired_differences,
    sums_by_group,
)
from sightx.plugin import Metric, Predictions
from sightx.registry.metric_results import numbers_of
from support.predictions import eyes

CLASSES, DRAWS = 4, 40


def draws_of(predictions: Predictions) -> list[np.ndarray]:
    """Return the rows of each draw of groups, by the counts that intervals use."""
    positions = predictions.group_positions
    seed = hashlib.sha256("\0".join(predictions.keys).encode()).hexdigest()
    counts = np.concatenate(list(draw_counts(positions.max() + 1, DRAWS, seed)))
    assert (counts.sum(axis=1) == positions.max() + 1).all()
    return [np.repeat(np.arange(len(positions)), row[positions].astype(int)) for row in counts]


def sklearn_numbers(labels: Any, decided: Any, probabilities: Any) -> dict[str, float]:
    names, present = range(CLASSES), np.unique(labels)
    recalls = recall_score(labels, decided, labels=names, average=None, zero_division=np.nan)
    one_hot = np.eye(CLASSES)[labels]
    return {
        "accuracy": accuracy_score(labels, decided),
        "balanced-accuracy": np.mean(recalls[present]),
        "qwk": cohen_kappa_score(labels, decided, labels=names, weights="quadratic"),
        "f1": np.nanmean(
            f1_score(labels, decided, labels=names, average=None, zero_division=np.nan)
        ),
        "recall/d": recalls[3],
        "log-loss": log_loss(labels, probabilities, labels=names),
        "brier": CLASSES * np.mean([
            brier_score_loss(one_hot[:, k], probabilities[:, k]) for k in names
        ]),
    }  # fmt: skip


def test_a_matrix_product_gives_what_a_loop_over_scikit_learn_gives() -> None:
    given = eyes()
    rows_of_draws = draws_of(given)
    expected = [
        sklearn_numbers(given.labels[rows], given.decisions[rows], given.probabilities[rows])
        for rows in rows_of_draws
    ]
    metrics = [Accuracy(), BalancedAccuracy(), Qwk(), F1(), Recall(), LogLoss(), Brier()]
    resampled = [Resampled(metric, given) for metric in metrics]
    assert {item.method for item in resampled} == {"bootstrap"}
    drawn = {k: v for part in draw_numbers(resampled, DRAWS) for k, v in part.items()}
    for name in expected[0]:
        values = [numbers[name] for numbers in expected]
        assert drawn[name] == pytest.approx(values, abs=1e-9, nan_ok=True), name
    intervals = confidence_intervals(given, metrics, draws=DRAWS)
    limits = np.percentile([numbers["qwk"] for numbers in expected], [2.5, 97.5])
    assert intervals["qwk"][1:3] == pytest.approx(tuple(limits))


def test_a_metric_without_sums_is_computed_for_resampled_predictions() -> None:
    given = eyes()
    resampled = Resampled(Auc(), given)
    assert resampled.method == "resampling"
    expected = [
        roc_auc_score(given.labels[rows] == 0, given.probabilities[rows, 0])
        for rows in draws_of(given)
    ]
    (drawn,) = draw_numbers([resampled], DRAWS)
    assert drawn["auc/a"] == pytest.approx(expected)
    (drawn,) = draw_numbers([Resampled(Auc(), eyes(4))], 2 * RESAMPLED_DRAWS)
    assert len(drawn["auc"]) == RESAMPLED_DRAWS


@pytest.mark.parametrize(
    "metric", [Accuracy(), Precision(), Qwk(), F1(), Brier(), Ece(), Rps()], ids=lambda m: m.name
)
def test_sums_of_parts_are_the_sums_of_all(metric: Metric) -> None:
    given = eyes()
    parts = np.arange(len(given)) % 3  # as values of a column, or chunks of a long table
    sums = sums_by_group(metric, given, parts, 3)
    assert sums is not None
    for part in range(3):
        alone = metric.compute(given.take(np.flatnonzero(parts == part)))
        numbers = numbers_of(metric, sums, given.classes)
        assert {name: values[part] for name, values in numbers.items()} == pytest.approx(
            alone, nan_ok=True
        )
        # A row among others gives the same bits as the row alone.
        single = numbers_of(metric, sums[part], given.classes)
        assert {name: values[part].tobytes() for name, values in numbers.items()} == {
            name: values.tobytes() for name, values in single.items()
        }
    everything = numbers_of(metric, sums.sum(axis=0), given.classes)
    assert everything == pytest.approx(metric.compute(given), nan_ok=True)


def test_copies_of_samples_within_their_groups_do_not_narrow_the_interval() -> None:
    given = eyes()
    doubled = given.take(np.repeat(np.arange(len(given)), 4))
    doubled = replace(doubled, keys=tuple(f"{n}-{key}" for n, key in enumerate(doubled.keys)))
    alone = replace(doubled, groups=("",) * len(doubled))

    def width(predictions: Predictions, name: str) -> float:
        interval = confidence_intervals(predictions, [Accuracy(), Qwk()], draws=2000)[name]
        return interval.high - interval.low

    for name in ("accuracy", "qwk"):
        assert width(doubled, name) == pytest.approx(width(given, name), rel=0.1)
        # Four copies of two alike eyes counted as eight independent ones: too narrow.
        assert width(alone, name) < 0.6 * width(given, name)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    one, other = eyes(200), eyes(200, skill=0.6)
    other = replace(other, keys=one.keys, groups=one.groups, labels=one.labels)
    alone = [confidence_intervals(p, [Qwk()], draws=1000)["qwk"] for p in (one, other)]
    difference = paired_differences(one, other, [Qwk(), Recall()], draws=1000)["qwk"]
    assert difference.value == pytest.approx(alone[0].value - alone[1].value)
    assert difference.high - difference.low < sum(x.high - x.low for x in alone)
    swapped = paired_differences(other, one, [Qwk()], draws=1000)["qwk"]
    assert swapped[:3] == pytest.approx((-difference.value, -difference.high, -difference.low))
    same = paired_differences(one, one, [Qwk()], draws=50)["qwk"]
    assert (same.value, same.method) == (0, "bootstrap")
    assert np.isnan([same.low, same.high]).all()
    assert same.reason == "every resample gives the same difference"
    assert difference.reason == ""
    with pytest.raises(ValueError, match="different samples"):
        paired_differences(one, other.take(np.arange(10)), [Qwk()])


def test_the_same_predictions_have_the_same_intervals() -> None:
    one, two = (confidence_intervals(eyes(), [Qwk(), Brier()], draws=200) for _ in range(2))
    assert one == two


def test_without_samples_nothing_is_defined() -> None:
    empty = eyes().take(np.arange(0))
    intervals = confidence_intervals(empty, [Accuracy(), Qwk(), Auc(), Brier()], draws=10)
    assert all(map(math.isnan, (limit for i in intervals.values() for limit in i[:3])))


def test_what_sums_and_of_return_is_checked() -> None:
    class Flat(Accuracy):
        """Sums of the wrong shape."""

        name = "flat"

        def sums(self, predictions: Predictions) -> Any:
            return np.zeros(3)

    class Constant(Qwk):
        """A number for all draws."""

        name = "constant"

        def of(self, sums: Any, *, classes: Any) -> Any:
            return {"constant": 1.0}

        def compute(self, predictions: Predictions) -> Any:
            return {"constant": 1.0}

    for metric, message in ((Flat(), "sums() of flat"), (Constant(), "of() of constant")):
        with pytest.raises(PluginError) as caught:
            confidence_intervals(eyes(), [metric], draws=10)
        assert message in str(caught.value)


def test_a_long_table_without_sums_gets_fewer_draws() -> None:
    assert Resampled(Auc(), eyes(60)).resampled_draws == RESAMPLED_DRAWS
    long = eyes(2500)
    assert Resampled(Auc(), long).resampled_draws == 400
    many = replace(long, classes=tuple(map(str, range(100))))  # 10,000 sums for each of the groups
    assert Resampled(Accuracy(), many).group_sums is None
