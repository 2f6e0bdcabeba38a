from __future__ import annotations

from pathlib import Path

import pytest

from sightx import DataError
from sightx.init.columns import infer_columns, infer_scale


def described(folder: Path, text: str, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "a.csv").write_text(text)
    return folder / "a.csv"


def test_the_image_is_the_column_that_names_files(tmp_path: Path) -> None:
    text = "n,what,where\n1,cat,x\n2,dog,y\n3,cat,z\n4,dog,w\n"
    path = described(tmp_path, text, "deep/er/x.JPG", "deep/er/y.JPG", "deep/1.txt")
    found = infer_columns(path)
    assert (found.image, found.images, found.suffix) == ("where", "deep/er", ".JPG")
    assert (found.label, found.group, found.split) == ("what", "", "")


def test_whole_names_are_preferred_to_endings(tmp_path: Path) -> None:
    text = "id,file,label\n1,1.png,a\n2,2.png,b\n"
    assert infer_columns(described(tmp_path, text, "1.png", "2.png")).image == "file"


def test_a_column_called_split_that_holds_no_sides_is_none(tmp_path: Path) -> None:
    text = "image,label,split\n1.png,a,red\n2.png,b,blue\n"
    assert infer_columns(described(tmp_path, text, "1.png", "2.png")).split == ""


@pytest.mark.parametrize("level", ["7", "none"])
def test_what_is_not_in_five_grades_is_not_eyepacs(tmp_path: Path, level: str) -> None:
    rows = "image,level\n1_left,0\n1_right,{}\n"
    files = ("train/1_left.jpeg", "train/1_right.jpeg")
    assert infer_columns(described(tmp_path, rows.format("4"), *files)).eyepacs
    assert not infer_columns(described(tmp_path, rows.format(level), *files)).eyepacs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\n", r"error\[no-samples\]"),
        ("image,label\nx,y\n", r"error\[missing-images\].*its first row has image 'x', label 'y'"),
        ("image\n1.png\n", r"error\[no-label\] no column is surely the class: none is left"),
        ("image,p,q\n1.png,a,c\n2.png,b,d\n", r"a.csv:1: error\[no-label\].*: p, q; call it"),
        ("", r"error\[empty-file\]"),
    ],
)
def test_what_cannot_be_told_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        infer_columns(described(tmp_path, text, "1.png", "2.png"))


@pytest.mark.parametrize(
    ("classes", "label", "ordered"),
    [
        (["10", *"123456789"], "grade", [*"123456789", "10"]),
        (["0", "1", "2"], "Level", ["0", "1", "2"]),
        (["0", "1", "2"], "label", []),
        (["0", "1"], "grade", []),
        (["0", "2", "4"], "grade", []),
        (["3", "4", "5"], "grade", []),
        (["High", "low", "medium"], "", ["low", "medium", "High"]),
        (["high", "low"], "", []),
        (["cat", "dog", "fish"], "grade", []),
    ],
)
def test_only_what_looks_like_grades_is_ordered(
    classes: list[str], label: str, ordered: list[str]
) -> None:
    assert list(infer_scale(classes, label).classes) == ordered
