from __future__ import annotations

import pandas as pd
import pytest

from sightx.plugin import DataError, Faults, ImageTable, IncompleteTableError, Problem


def make_table(*paths: str) -> ImageTable:
    frame = pd.DataFrame({"path": paths, "label": [0] * len(paths), "group": [""] * len(paths)})
    return ImageTable(frame, ("a", "b"), lambda row: b"")


def test_all_faults_are_raised_at_once_with_the_rows_that_are_right():
    faults = Faults()
    faults.refuse(make_table("a.png"))
    assert not faults
    faults.add(Problem("label-missing", "level is ''"), rows=3)
    faults.add(Problem("path-empty", "image is empty"))
    with pytest.raises(DataError) as caught:
        faults.refuse(table := make_table("a.png"))
    assert isinstance(caught.value, IncompleteTableError)
    assert [problem.code for problem in caught.value.problems] == ["label-missing", "path-empty"]
    assert caught.value.rows == (3, 1)
    assert caught.value.table is table


def test_a_code_is_listed_five_times_and_then_counted():
    faults = Faults()
    for number in range(8):
        faults.add(Problem("label-unknown", f"there is no class '{number}'"), rows=2)
    faults.add(Problem("path-empty", "image is empty"))
    with pytest.raises(IncompleteTableError) as caught:
        faults.refuse(None)
    *_, last, other = caught.value.problems
    assert last.message == "there is no class '4'; 6 other rows like it"
    assert other.code == "path-empty"
    assert caught.value.rows == (2, 2, 2, 2, 8, 1)


def test_what_reads_a_table_further_goes_on_with_its_rest():
    def load() -> ImageTable:
        inner = Faults()
        inner.add(Problem("path-empty", "image is empty"))
        inner.refuse(rest)
        raise AssertionError

    rest, faults = make_table("a.png"), Faults()
    assert faults.collect(load) is rest
    assert faults
    rest = make_table()  # no row is right
    with pytest.raises(IncompleteTableError) as caught:
        faults.collect(load)
    assert caught.value.table is None
