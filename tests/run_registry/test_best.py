"""What RUN means, with `best:`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightx.errors import RunError, SpecError
from sightx.run_registry.best import find_directory
from support.run_folders import write_run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, accuracy in enumerate((0.5, 0.9, 0.7)):
        metrics = {"validation/accuracy": accuracy, "validation/loss": 1 - accuracy}
        write_run(tmp_path, f"a{number}", {"seed": number}, metrics)
    write_run(tmp_path, "b", {}, {"validation/accuracy": 1.0}, status="failed")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "checkpoint"),
    [
        ("best:validation/accuracy", "a1", ""),
        ("best:accuracy@last", "a1", "last"),
        ("best:loss", "a1", ""),
        ("best:accuracy[seed != 1]", "a2", ""),
        ("best:accuracy[seed != 1]@best", "a2", "best"),
        ("20260131-a0", "a0", ""),
        ("last@x", "b", "x"),
    ],
)
def test_a_run_is_found(root: Path, text: str, name: str, checkpoint: str) -> None:
    write_run(root, "b-last", {}, {"validation/accuracy": 0.0, "validation/loss": 9.0})
    name = "b-last" if name == "b" else name
    assert find_directory(root, text) == (root / f"20260131-{name}", checkpoint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best:test/accuracy", "choosing a run by test/accuracy makes its test metrics too good"),
        ("best:acuracy", "no run has 'acuracy'; did you mean"),
        ("best:seed", "seed is not a metric"),
        ("best:", "'best:' is not the name of a run"),
        ("best:loss[seed = ]", "a value is missing before the end"),
    ],
)
def test_a_name_that_is_none_is_refused(root: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        find_directory(root, text)
    assert message in str(caught.value)


def test_without_a_matching_run_there_is_no_best_one(root: Path) -> None:
    with pytest.raises(RunError, match="no finished run has validation/loss"):
        find_directory(root, "best:loss[seed > 7]")
