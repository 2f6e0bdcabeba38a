from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sightx.plugin import Predictions


def predictions() -> Predictions:
    return Predictions(
        keys=("a", "b", "c"), groups=("1", "1", ""), labels=np.array([0, 1, -1]),
        outputs=np.zeros((3, 2)), probabilities=np.full((3, 2), 0.5),
        decisions=np.array([1, 1, 0]), classes=("no", "yes"),
    )  # fmt: skip


def test_a_frame_speaks_of_classes_by_name_and_unknown_is_empty() -> None:
    frame = predictions().frame()
    assert list(frame.label) == ["no", "yes", ""]
    assert list(frame.prediction) == ["yes", "yes", "no"]
    assert len(predictions()) == 3


def test_predictions_are_saved_as_csv_and_arrays(tmp_path: Path) -> None:
    predictions().save(tmp_path / "deep" / "test")
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {
        "test.csv", "test.outputs.npy", "test.probabilities.npy",
    }  # fmt: skip
    table = pd.read_csv(tmp_path / "deep" / "test.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == ["path", "group", "label", "prediction"]
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "test.probabilities.npy"), 0.5)


def test_other_decisions_leave_the_rest() -> None:
    first = predictions()
    second = first.with_decisions(np.array([0.0, 0.0, 1.0]))
    assert list(second.decisions) == [0, 0, 1]
    assert second.decisions.dtype == np.int64
    assert list(first.decisions) == [1, 1, 0]
    assert second.with_probabilities(np.eye(3)[:, :2]).decisions is second.decisions
