from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sightx import ResourceError, RunError
from sightx.records.predictions import Predictions
from sightx.runs import predictions

CLASSES = ("x", "y")


def table_of(number: int) -> Predictions:
    values = np.full((3, 2), float(number))
    return Predictions(
        keys=("a", "b", "c"), groups=("a", "b", "c"), labels=np.array([0, 1, 0]), outputs=values,
        probabilities=values, decisions=np.array([0, 0, 0]), classes=CLASSES,
    )  # fmt: skip


def read(folder: Path, name: str = "test") -> Predictions:
    return predictions.read(folder, name, CLASSES, ordered=False)


def read_or_problem(folder: Path) -> tuple[Predictions | None, str]:
    try:
        return read(folder), ""
    except RunError as error:
        return None, str(error)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_crash_never_mixes_the_files_of_two_checkpoints(
    tmp_path: Path, faulty: Callable[..., int]
) -> None:
    points, status, refused = 0, -1, 0
    while status:
        predictions.write(tmp_path, "test", table_of(1), "step-1")
        points += 1
        status = faulty(
            lambda: predictions.write(tmp_path, "test", table_of(2), "step-2"), points, "die"
        )
        table, problem = read_or_problem(tmp_path)
        if table is None:
            assert problem.startswith("error[bad-predictions]", problem.index("error"))
            assert "sightx evaluate" in problem
            refused += 1
        else:
            number = {"step-1": 1.0, "step-2": 2.0}[predictions.checkpoint_of(tmp_path, "test")]
            assert float(table.outputs[0, 0]) == float(table.probabilities[0, 0]) == number
    assert points > 12
    assert refused > 0


@pytest.mark.parametrize("file", ["test.csv", "test.outputs.npy", "test.probabilities.npy"])
@pytest.mark.parametrize("change", ["other", "missing"])
def test_a_changed_file_is_refused(tmp_path: Path, file: str, change: str) -> None:
    predictions.write(tmp_path, "test", table_of(1), "step-1")
    path = tmp_path / "predictions" / file
    if change == "other":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        path.unlink()
    with pytest.raises(RunError, match="predictions"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}'])
def test_a_damaged_description_is_refused(tmp_path: Path, content: str) -> None:
    predictions.write(tmp_path, "test", table_of(1), "step-1")
    (tmp_path / "predictions" / "test.json").write_text(content)
    with pytest.raises(RunError, match=r"test\.json is damaged"):
        read(tmp_path)


def test_tables_of_other_checkpoints_lie_next_to_each_other(tmp_path: Path) -> None:
    predictions.write(tmp_path, "test", table_of(1), "step-1")
    predictions.write(tmp_path, "test@step-2", table_of(2), "step-2")

    assert [float(read(tmp_path, name).outputs[0, 0]) for name in ("test", "test@step-2")] == [1, 2]
    assert predictions.checkpoint_of(tmp_path, "test@step-2") == "step-2"
    assert predictions.checkpoint_of(tmp_path, "train") == ""
    assert not predictions.exists(tmp_path, "train")
    with pytest.raises(RunError, match="no predictions of 'train'; sightx evaluate"):
        predictions.read_frame(tmp_path, "train")


def test_files_of_a_killed_process_are_not_taken(tmp_path: Path) -> None:
    left = tmp_path / ".writing-predictions" / "train.csv"
    left.parent.mkdir()
    left.write_text("")
    predictions.write(tmp_path, "test", table_of(1), "step-1")

    assert not left.parent.exists()
    assert not (tmp_path / "predictions" / "train.csv").exists()


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="is gone"):
        predictions.write(tmp_path / "gone", "test", table_of(1), "step-1")
    assert not (tmp_path / "gone").exists()
