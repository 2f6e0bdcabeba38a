from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx.builtin.metrics import (
    F1,
    Accuracy,
    BalancedAccuracy,
    ConfusionMatrix,
    Precision,
    Qwk,
    Recall,
)
from sightx.plugin import Predictions

ALL = [Accuracy(), BalancedAccuracy(), Precision(), Recall(), F1(), Qwk(), ConfusionMatrix()]


def predictions(labels, decisions, classes=3):
    n, none = len(labels), np.zeros((len(labels), classes))
    return Predictions(
        tuple(map(str, range(n))), ("",) * n, np.array(labels, dtype=np.int64), none, none,
        np.array(decisions, dtype=np.int64), tuple("abcdefgh"[:classes]),
    )  # fmt: skip


def counted(labels, decisions, classes):
    """Count by hand, true class by decision."""
    table = np.zeros((classes, classes))
    for label, decision in zip(labels, decisions, strict=True):
        if label >= 0:
            table[label, decision] += 1
    return table


def textbook_kappa(table):
    """1 - sum(w O) / sum(w E), Cohen 1968, from a table of counts."""
    grades = np.arange(len(table))
    weights = (grades[:, None] - grades) ** 2 / max(len(table) - 1, 1) ** 2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    chance = (weights * expected).sum()
    return 1 - (weights * table).sum() / chance if chance else math.nan


def quotient(above, below):
    return above / below if below else math.nan


def by_hand(table):
    """All figures from counts, a class at a time."""
    figures = {"accuracy": np.trace(table) / table.sum(), "qwk": textbook_kappa(table)}
    per_class = {"precision": [], "recall": [], "f1": []}
    for k in range(len(table)):
        hits, present, decided = table[k, k], table[k].sum(), table[:, k].sum()
        seldom = 0.0 if present else math.nan
        per_class["precision"].append(hits / decided if decided else seldom)
        per_class["recall"].append(quotient(hits, present))
        per_class["f1"].append(quotient(2 * hits, present + decided))
    for name, each in per_class.items():
        figures[name] = np.mean([figure for figure in each if not math.isnan(figure)])
        figures.update({f"{name}/{'abcdefgh'[k]}": figure for k, figure in enumerate(each)})
    figures["balanced-accuracy"] = figures["recall"]
    for (true, decided), count in np.ndenumerate(table):
        figures[f"confusion/{'abcdefgh'[true]}/{'abcdefgh'[decided]}"] = count
    return figures


def every_figure(given_predictions):
    return {k: v for metric in ALL for k, v in metric.compute(given_predictions).items()}


@st.composite
def samples(draw):
    classes = draw(st.integers(2, 6))
    pairs = st.tuples(st.integers(-1, classes - 1), st.integers(0, classes - 1))
    drawn = draw(st.lists(pairs, min_size=1, max_size=40).filter(lambda s: s[0][0] >= 0))
    return [label for label, _ in drawn], [decision for _, decision in drawn], classes


@settings(deadline=None)
@given(samples())
def test_every_figure_is_its_definition(drawn):
    labels, decisions, classes = drawn
    expected = by_hand(counted(labels, decisions, classes))
    assert every_figure(predictions(labels, decisions, classes)) == pytest.approx(
        expected, abs=1e-12, nan_ok=True
    )


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=5, max_size=5), min_size=5, max_size=5))
def test_kappa_is_the_textbook_formula_of_any_confusion_matrix(rows):
    table = np.array(rows)
    if table.sum() == 0:
        return
    labels, decisions = np.repeat(np.indices((5, 5)).reshape(2, 25), table.ravel(), axis=1)
    found = Qwk().compute(predictions(labels, decisions, 5))["qwk"]
    assert found == pytest.approx(textbook_kappa(table), abs=1e-12, nan_ok=True)


def test_names_and_directions_are_known_without_predictions():
    classes = ("healthy", "ill")
    assert Accuracy().values(classes) == {"accuracy": "max"}
    assert F1().values(classes) == {"f1": "max", "f1/healthy": "max", "f1/ill": "max"}
    assert ConfusionMatrix().values(classes) == {
        "confusion/healthy/healthy": "max",
        "confusion/healthy/ill": "min",
        "confusion/ill/healthy": "min",
        "confusion/ill/ill": "max",
    }


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
@pytest.mark.parametrize("labels", [[], [-1, -1]], ids=["empty", "unknown"])
def test_without_labelled_samples_every_figure_is_nan(metric, labels):
    found = metric.compute(predictions(labels, [0] * len(labels)))
    assert list(found) == list(metric.values("abc"))
    assert all(math.isnan(figure) for figure in found.values())


def test_a_missing_class_is_left_out_and_a_missed_one_is_not():
    found = every_figure(predictions([0, 0, 1, 1], [0, 0, 0, 0], classes=3))
    assert found["precision"] == pytest.approx((0.5 + 0.0) / 2)  # b is missed, c is missing
    assert found["recall"] == found["balanced-accuracy"] == pytest.approx((1.0 + 0.0) / 2)
    assert found["precision/b"] == 0.0
    assert math.isnan(found["precision/c"])
    assert math.isnan(found["recall/c"])


def test_a_class_decided_without_samples_costs_precision():
    found = every_figure(predictions([0, 0], [0, 2]))
    assert found["precision/c"] == found["f1/c"] == 0.0
    assert found["balanced-accuracy"] == 0.5


@pytest.mark.parametrize(
    ("labels", "decisions", "kappa"),
    [
        ([1, 1, 1], [1, 1, 1], math.nan),  # chance agrees as fully
        ([1, 1, 1], [2, 2, 2], 0.0),
        ([0, 1, 2], [1, 1, 1], 0.0),
        ([0, 1, 2], [0, 1, 2], 1.0),
        ([0, 2], [2, 0], -1.0),
    ],
)
def test_kappa_of_constant_and_opposite_answers(labels, decisions, kappa):
    found = Qwk().compute(predictions(labels, decisions))["qwk"]
    assert found == pytest.approx(kappa, nan_ok=True)


def test_kappa_counts_classes_that_no_sample_has():
    """Grades 0 and 4 are four apart, though nothing lies between them."""
    labels, decisions = [0, 0, 4, 4, 4], [0, 4, 4, 4, 3]
    found = Qwk().compute(predictions(labels, decisions, classes=5))["qwk"]
    assert found == pytest.approx(textbook_kappa(counted(labels, decisions, 5)))


def test_one_class_of_one_is_no_failure():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = every_figure(predictions([0, 0], [0, 0], classes=1))
    assert found["accuracy"] == found["precision"] == found["f1/a"] == 1.0
    assert math.isnan(found["qwk"])


def test_figures_are_plain_floats():
    assert {type(v) for v in every_figure(predictions([0, 1], [0, 1])).values()} == {float}


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_scikit_learns(seed):
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    labels, decisions = rng.integers(0, 4, (2, 300))
    decisions[:150] = labels[:150]
    found = every_figure(predictions(labels, decisions, 4))
    per_class = metrics.precision_recall_fscore_support(labels, decisions)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, decisions))
    assert found["balanced-accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, decisions)
    )
    assert found["qwk"] == pytest.approx(
        metrics.cohen_kappa_score(labels, decisions, weights="quadratic")
    )
    for name, column in zip(("precision", "recall", "f1"), per_class, strict=False):
        assert [found[f"{name}/{each}"] for each in "abcd"] == pytest.approx(list(column))
