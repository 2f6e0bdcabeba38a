from __future__ import annotations

import math

import numpy as np
import pytest
from rich.console import Console

from sightx.builtin.observers import tables
from sightx.plugin import Predictions

DATA = {
    "classes": ["none", "mild"],
    "counts": {"train": [90, 10], "validation": [7, 3], "test": [0, 0]},
}


def text(renderable: object) -> list[str]:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().splitlines()


def test_the_histogram_counts_each_side_and_shares_all() -> None:
    rows = text(tables.histogram(DATA))
    assert rows[1].split()[:5] == ["none", "90", "7", "0", "88.2%"]
    assert rows[2].split()[:5] == ["mild", "10", "3", "0", "11.8%"]
    assert rows[1].count("█") > rows[2].count("█") > 0


def test_the_baseline_is_the_largest_class_of_training() -> None:
    line = tables.baseline(DATA)
    assert line == "accuracy of always predicting 'none': validation 70.0%"


def test_heads_stand_above_their_numbers() -> None:
    assert "qwk" in tables.header("validation/qwk")
    assert "accuracy" not in tables.header("validation/accuracy")
    assert tables.header("validation/loss") == tables.header("validation/accuracy")


def test_per_class_rows_agree_with_the_confusion_matrix() -> None:
    labels = np.array([0, 0, 0, 1, 1, -1])
    decisions = np.array([0, 0, 1, 1, 0, 1])
    empty = np.zeros((6, 3))
    predictions = Predictions(
        tuple("abcdef"), ("",) * 6, labels, empty, empty, decisions, ("x", "y", "z")
    )
    rows = [line.split() for line in text(tables.per_class(predictions))]
    assert rows[1] == ["x", "3", "66.7%", "66.7%", "66.7%"]
    assert rows[2] == ["y", "2", "50.0%", "50.0%", "50.0%"]
    assert rows[3][:2] == ["z", "0"]


@pytest.mark.parametrize("value", [None, math.nan])
def test_figures_leave_out_classes_and_show_what_is_undefined(value: float | None) -> None:
    result = {
        "test": {"test/loss": 0.5, "test/f1": value, "test/qwk": 0.25, "test/f1/none": 0.1},
        "intervals": {"test/qwk": [0.125, math.nan]},
        "baselines": {"test/qwk": 0.0},
    }
    assert [line.split() for line in text(tables.metrics_table(result, "test"))] == [
        ["metric", "value", "95", "%", "interval", "largest", "class"],
        ["loss", "0.5000"],
        ["f1", "-"],
        ["qwk", "0.2500", "0.0000"],
    ]


def test_figures_without_augmentation_have_a_column_if_there_are_any() -> None:
    result = {"test": {"test/f1": 0.5}, "without_tta": {"test/f1": 0.75}}
    (head, row) = text(tables.metrics_table(result, "test"))
    assert head.split()[-2:] == ["without", "augmentation"]
    assert row.split() == ["f1", "0.5000", "0.7500"]


def test_names_in_brackets_are_shown_as_they_are() -> None:
    data = {"classes": ["[left]", "[/x]"], "counts": {"train": [1, 1]}}
    rows = text(tables.histogram(data, "#"))
    assert rows[1].startswith("[left]")
    assert rows[2].startswith("[/x]")
    assert "█" not in "".join(rows)
