from __future__ import annotations

import numpy as np
import pytest

from sightx.builtin import metrics, postprocess
from sightx.evaluation import metrics as evaluation
from sightx.plugin import Predictions


@pytest.fixture
def graded() -> Predictions:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    outputs = rng.normal(0, 1, (200, 3)) + 2 * np.eye(3)[labels] + [1.5, 0, 0]
    probabilities = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    names = tuple(map(str, range(200)))
    return Predictions(names, names, labels, outputs, probabilities, probabilities.argmax(1),
                       ("a", "b", "c"), ordered=True)  # fmt: skip


def test_metrics_are_named_by_split(graded: Predictions) -> None:
    values = evaluation.compute_metrics(graded, [metrics.Accuracy(), metrics.Recall()], "test")
    assert values["test/accuracy"] == np.mean(graded.labels == graded.decisions)
    assert set(values) == {"test/accuracy", "test/recall", *(f"test/recall/{c}" for c in "abc")}


def test_directions_cover_losses_and_metrics() -> None:
    values = evaluation.metric_directions([metrics.Qwk(), metrics.ConfusionMatrix()], ("a", "b"))
    assert values["validation/loss"] == "min"
    assert values["validation/qwk"] == "max"
    assert values["validation/confusion/a/b"] == "min"


def test_a_fitted_chain_gives_the_same_decisions_again(graded: Predictions) -> None:
    chain = [postprocess.Temperature(), postprocess.CutPoints()]
    states, decided = evaluation.fit_postprocess(chain, graded)
    again = evaluation.apply_postprocess(chain, states, graded)
    np.testing.assert_array_equal(decided.decisions, again.decisions)
    np.testing.assert_array_equal(decided.probabilities, again.probabilities)
    before = evaluation.compute_metrics(graded, [metrics.Qwk()], "x")["x/qwk"]
    assert evaluation.compute_metrics(decided, [metrics.Qwk()], "x")["x/qwk"] > before
