from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx import DataError
from sightx.builtin.splits import Grouped, Listed
from sightx.plugin import ImageTable

LABELS = [0, 0, 0, 1, 1, 2]


def table_of(groups: range, eyes: int = 2) -> ImageTable:
    rows = [
        (f"{group}_{eye}", LABELS[(group + eye // 2) % len(LABELS)], str(group))
        for group in groups
        for eye in range(eyes)
    ]
    frame = pd.DataFrame(rows, columns=["path", "label", "group"])
    return ImageTable(frame, ("none", "mild", "severe"), lambda index: b"")


def write(file: Path, table: ImageTable, splits: pd.Series[str]) -> Path:
    frame = pd.DataFrame({"path": table.frame["path"], "split": splits})
    frame.to_csv(file, index=False)
    return file


def by_path(table: ImageTable, splits: pd.Series[str]) -> dict[str, str]:
    assert splits.index.equals(table.frame.index)
    return dict(zip(table.frame["path"], splits, strict=True))


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(30, 120), st.integers(0, 60), st.integers(0, 3))
def test_listed_samples_keep_their_split_when_data_grow(
    tmp_path_factory: pytest.TempPathFactory, before: int, more: int, seed: int
) -> None:
    old = table_of(range(before))
    splits = Grouped(seed=seed).assign(old)
    file = write(tmp_path_factory.mktemp("run") / "split.csv", old, splits)
    # A third of the old groups go, new ones come, and every group gets two more images.
    grown = table_of(range(before // 3, before + more), eyes=4)
    found = by_path(grown, Listed(file=file, seed=seed + 1).assign(grown))
    for path, split in by_path(old, splits).items():
        assert found.get(path, split) == split
    pairs = {(path.split("_")[0], split) for path, split in found.items()}
    assert len(pairs) == before + more - before // 3


def test_new_groups_even_out_the_shares(tmp_path: Path) -> None:
    old, grown = table_of(range(300)), table_of(range(900))
    file = write(tmp_path / "split.csv", old, Grouped(validation=0.2, test=0.05).assign(old))
    splits = Listed(file=file, validation=0.1, test=0.1).assign(grown)
    found = pd.crosstab(grown.frame["label"], splits)
    wanted = np.outer(grown.counts(), [0.1, 0.8, 0.1])  # columns in the order of the alphabet
    assert np.abs(found.to_numpy() - wanted).max() <= 2
    shuffled = grown.take(np.random.default_rng(0).permutation(len(grown)))
    again = Listed(file=file, validation=0.1, test=0.1).assign(shuffled)
    assert by_path(shuffled, again) == by_path(grown, splits)


def test_grouped_alone_would_move_old_samples() -> None:
    """Show why `listed` exists: the same settings on more data give another split."""
    old, grown = table_of(range(300)), table_of(range(310))
    before, after = by_path(old, Grouped().assign(old)), by_path(grown, Grouped().assign(grown))
    assert any(after[path] != split for path, split in before.items())


def test_a_group_that_was_left_out_stays_left_out(tmp_path: Path) -> None:
    old = table_of(range(60))
    splits = Grouped().assign(old).where(old.frame["group"] != "7", "")
    file = write(tmp_path / "split.csv", old, splits)
    grown = table_of(range(60), eyes=3)
    found = by_path(grown, Listed(file=file).assign(grown))
    assert {found["7_0"], found["7_1"], found["7_2"]} == {""}


def test_new_samples_of_a_divided_group_go_to_the_first_split(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    file.write_text("path,split\n0_0,test\n0_1,train\n1_0,test\n1_1,validation\n", encoding="utf-8")
    table = table_of(range(2), eyes=3)
    splits = Listed(file=file).assign(table)
    assert splits.tolist() == ["test", "train", "train", "test", "validation", "validation"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image,split\na,train\n", ":1: error[missing-column] there is no column 'path'"),
        ("path,splits\na,train\n", "'split'; did you mean 'splits'?"),
        ("path\na\n", "there is no column 'split'; columns: path"),
        ("", ": error[empty-file] the file is empty"),
        ("path,split\na,train\nb,val\n", ":3: error[split-unknown] 'val' is not the name"),
        ("path,split\na,train\nb\n", ":3: error[ragged-row] a row of 1"),
        ("path,split\na,train\n\na,test\n", ":4: error[duplicate-row] 'a' is there a second"),
        ("path,split\na,train\n", ": error[foreign-split] none of its 1 paths"),
        ("path,split\nz\xfcrich,train\n", ":2: error[encoding] not UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_at_its_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "split.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        Listed(file=file).assign(table_of(range(10)))
    assert str(caught.value).startswith(str(file))
    assert problem in str(caught.value)


def test_both_missing_columns_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    file.write_text("image,level\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Listed(file=file).assign(table_of(range(10)))
    assert [problem.code for problem in caught.value.problems] == ["missing-column"] * 2


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"gone\.csv: error\[unreadable\] cannot be read: No such file"
    ):
        Listed(file=tmp_path / "gone.csv").assign(table_of(range(10)))


def test_a_byte_order_mark_and_further_columns_are_accepted(tmp_path: Path) -> None:
    table = table_of(range(1))
    file = tmp_path / "split.csv"
    file.write_text("group,path,split\r\n0,0_0,test\r\n0,0_1,test\r\n", encoding="utf-8-sig")
    assert Listed(file=file).assign(table).tolist() == ["test", "test"]
