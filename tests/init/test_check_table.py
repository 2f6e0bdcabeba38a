"""What `sightx init` says of missing images, small classes and wrong rows: all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sightx import DataError
from sightx.errors import Problem
from sightx.init.inspect_data import inspect_data
from sightx.registry import loading, project

Problems = Callable[[list[str]], list[Problem]]


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """Return what is wrong with a CSV file of rows; images whose name begins with x are missing."""

    def call(rows: list[str]) -> list[Problem]:
        for name in (row.partition(",")[0] for row in rows):
            if name.endswith(".png") and not name.startswith("x"):
                Image.new("L", (8, 8)).save(tmp_path / name)
        (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows, ""]))
        registry = loading.load_registry(project.find_project(tmp_path))
        with pytest.raises(DataError) as caught:
            inspect_data(tmp_path / "labels.csv", registry)
        assert all(len(str(problem)) <= 300 for problem in caught.value.problems)
        return list(caught.value.problems)

    return call


def rows_of(name: str, count: int) -> list[str]:
    return [f"{name}{number}.png,{name}" for number in range(count)]


def test_a_misspelt_class_is_named_with_its_line_and_the_class_that_is_meant(
    problems: Problems,
) -> None:
    (problem,) = problems([*rows_of("rows", 6), "a.png,row", *rows_of("cols", 5)])
    assert (problem.code, problem.line) == ("rare-class", 8)
    assert problem.message == "class 'row' has 1 sample, too few for training and validation"
    assert problem.hint == "did you mean 'rows' (6)? if not, add some, or remove the class"


def test_a_small_stage_is_not_a_misspelling_of_another_stage(problems: Problems) -> None:
    (problem,) = problems([*rows_of("stage 1", 6), *rows_of("stage 2", 6), "a.png,stage 3"])
    assert (problem.line, problem.hint) == (14, "add some, or remove the class")


def test_a_spelling_in_another_case_has_its_line_and_no_setting_of_a_spec(
    problems: Problems,
) -> None:
    spelling, *_ = problems([*rows_of("rows", 6), "a.png,Rows", *rows_of("cols", 5)])
    assert (spelling.code, spelling.line) == ("class-spelling", 8)
    assert spelling.hint == "write them alike"


def test_all_wrong_rows_and_missing_images_are_reported_at_once(problems: Problems) -> None:
    rows = [*rows_of("rows", 4), "x.png,rows", "a.png,NA", "b.png;cols", "c.png"]
    reported = problems([*rows, *rows_of("cols", 4), "d.png,col", "e.png,col,1"])
    assert [(problem.code, problem.line) for problem in reported] == [
        ("missing-images", 6),
        ("label-missing", 7),
        ("ragged-row", 8),
        ("ragged-row", 9),
        ("rare-class", 14),
        ("ragged-row", 15),
    ]
    hints = [problem.hint for problem in reported]
    assert hints[1] == "fill it or delete the row"
    assert hints[2] == "write ',' in place of ';', or 2 cells"
    assert hints[3] == "write 2 cells; one without a value is empty"
    assert hints[5] == "put a cell that holds the separator in quotes"
