"""What the columns of CSV files mean, and where their images are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightx import DataError
from sightx.builtin.datasets.csv import CsvDataset
from sightx.init.find_images import Images
from sightx.init.infer_columns import csv_files_settings, csv_settings, infer_columns
from sightx.records.table import ImageTable


def csv_file(folder: Path, text: str, *files: str) -> Path:
    """Write a CSV file next to empty files."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "a.csv").write_text(text)
    return folder / "a.csv"


def test_the_image_is_the_column_that_names_files(tmp_path: Path) -> None:
    text = "n,what,where\n1,cat,x\n2,dog,y\n3,cat,z\n4,dog,w\n"
    path = csv_file(tmp_path, text, "deep/er/x.JPG", "deep/er/y.JPG", "deep/1.txt")
    columns = infer_columns(path)
    assert columns.found == Images("where", "deep/er", ".JPG")
    assert (columns.label, columns.group, columns.split) == ("what", "", "")


def test_whole_names_are_preferred_to_endings(tmp_path: Path) -> None:
    text = "id,file,label\n1,1.png,a\n2,2.png,b\n"
    assert infer_columns(csv_file(tmp_path, text, "1.png", "2.png")).found.column == "file"


def test_a_column_called_split_needs_the_names_of_splits(tmp_path: Path) -> None:
    text = "image,label,split\n1.png,a,red\n2.png,b,blue\n"
    assert infer_columns(csv_file(tmp_path, text, "1.png", "2.png")).split == ""


@pytest.mark.parametrize("level", ["7", "none"])
def test_eyepacs_needs_five_grades(tmp_path: Path, level: str) -> None:
    rows = "image,level\n1_left,0\n1_right,{}\n"
    files = ("train/1_left.jpeg", "train/1_right.jpeg")
    assert infer_columns(csv_file(tmp_path, rows.format("4"), *files)).is_eyepacs
    assert not infer_columns(csv_file(tmp_path, rows.format(level), *files)).is_eyepacs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\n", r"error\[no-samples\]"),
        ("image,label\nx,y\n", r"error\[missing-images\].*its first row has image 'x', label 'y'"),
        ("image\n1.png\n", r"error\[no-label\] no column is clearly the class: none is left"),
        ("image,p,q\n1.png,a,c\n2.png,b,d\n", r"a.csv:1: error\[no-label\].*: p, q; call it"),
        ("", r"error\[empty-file\]"),
    ],
)
def test_columns_that_are_not_clear_are_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        infer_columns(csv_file(tmp_path, text, "1.png", "2.png"))


def test_columns_without_a_name_are_not_looked_at(tmp_path: Path) -> None:
    text = "Image name,Grade,,,\na,1,,,\nb,2,,,\n"
    columns = infer_columns(csv_file(tmp_path, text, "in/a.jpg", "in/b.jpg"))
    assert columns.found == Images("Image name", "in", ".jpg")
    assert columns.label == "Grade"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1.png,a\n2.png,b\n", ("image", "label")),
        ("0,1.png\n0,2.png\n1,3.png\n", ("label", "image")),
        ("1,0,train\n2,1,val\n3,1,test\n", ("image", "label", "split")),
    ],
)
def test_a_file_without_a_header_gets_names(
    tmp_path: Path, text: str, names: tuple[str, ...]
) -> None:
    path = csv_file(tmp_path, text, "1.png", "2.png", "3.png")
    settings, remarks = csv_settings(path)
    assert settings["columns"] == list(names)
    assert (settings["image"], settings["label"]) == ("image", "label")
    assert "no header" in remarks["columns"]


def test_a_header_with_a_number_is_a_header(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "image,label,2019\n1.png,a,x\n2.png,b,y\n", "1.png", "2.png")
    assert infer_columns(path).names == ()


@pytest.mark.parametrize("inside", [True, False])
def test_absolute_paths_are_found(tmp_path: Path, inside: bool) -> None:
    images = tmp_path / ("data/in" if inside else "elsewhere")
    csv_file(images, "", "x/1.png", "y/2.png")
    (images / "a.csv").unlink()
    (tmp_path / "data").mkdir(exist_ok=True)
    text = f"image,label\n{images}/x/1.png,a\n{images}/y/2.png,b\n"
    settings, _ = csv_settings(csv_file(tmp_path / "data", text))
    assert settings["images"] == ("in" if inside else str(images))
    del settings["use"]
    table = CsvDataset(**{**settings, "root": tmp_path / "data"}).table()
    assert table.frame["path"].tolist() == ["x/1.png", "y/2.png"]


@pytest.mark.parametrize(
    ("cell", "difference"),
    [
        ("in/{}.jpg", "the ending"),
        ("IN/{}.PNG", "upper and lower case"),
        ("in/%3{}.png", "percent escapes"),
    ],
)
def test_a_near_name_is_offered(tmp_path: Path, cell: str, difference: str) -> None:
    text = f"image,label\n{cell.format(1)},a\n{cell.format(2)},b\n"
    with pytest.raises(
        DataError, match=rf"did you mean in/1\.png .*2 names differ in {difference}"
    ):
        infer_columns(csv_file(tmp_path, text, "in/1.png", "in/2.png"))


@pytest.mark.parametrize(
    ("cell", "prefix"),
    [
        ("in/in/{}.png", "in/"),
        ("C:\\Users\\me\\in\\{}.png", "C:/Users/me/"),
        ("/kaggle/input/in/{}", "/kaggle/input/"),
    ],
)
def test_folders_of_another_machine_are_left_out(tmp_path: Path, cell: str, prefix: str) -> None:
    text = f"image,label\n{cell.format(1)},a\n{cell.format(2)},b\n"
    settings, remarks = csv_settings(csv_file(tmp_path, text, "in/1.png", "in/2.png"))
    assert settings["strip_prefix"] == prefix
    assert "not used" in remarks["strip_prefix"]
    assert table_of(settings).frame["path"].tolist() == ["in/1.png", "in/2.png"]


def table_of(settings: dict[str, Any]) -> ImageTable:
    """Return the table of the dataset that has these settings, which has files for all rows."""
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
        if key != "use"
    }
    table = CsvDataset(**{**values, "root": Path(values["root"])}).table()
    assert table.root is not None
    assert all((table.root / path).is_file() for path in table.frame["path"])
    return table


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("image;label\n1.png;a\n2.png;b, c\n", "utf-8", {"separator": ";"}),
        ("image\tlabel\n1.png\ta\n2.png\tb\n", "utf-8", {"separator": "\t"}),
        ("sep=;\nimage;label\n1.png;a\n2.png;b\n", "utf-8", {}),
        ("image,label\n1.png,a\n2.png,b\n", "utf-8-sig", {}),
        ("image,label\n1.png,a\n2.png,b\n", "utf-16", {"encoding": "utf-16"}),
        ("image,label\n1.png,Hélène\n2.png,b\n", "latin-1", {"encoding": "cp1252"}),
        ("# made by me\n\nimage,label\n1.png,a\n2.png,b\n,\n", "utf-8", {}),
    ],
)
def test_other_formats_are_read(
    tmp_path: Path, text: str, encoding: str, expected: dict[str, str]
) -> None:
    path = csv_file(tmp_path, "", "1.png", "2.png")
    path.write_bytes(text.encode(encoding))
    settings, _ = csv_settings(path)
    assert {key: settings[key] for key in ("separator", "encoding") if key in settings} == expected
    assert len(table_of(settings)) == 2


def test_a_column_per_class_is_one_hot(tmp_path: Path) -> None:
    text = "image,age,MEL,NV,BCC\n1,50,1.0,0.0,0.0\n2,1,0.0,1.0,0.0\n3,0,0,0,1\n"
    settings, remarks = csv_settings(csv_file(tmp_path, text, "1.jpg", "2.jpg", "3.jpg"))
    assert settings["one_hot"] == ["MEL", "NV", "BCC"]
    assert "label" not in settings
    assert "Each class has a column" in remarks["one_hot"]
    assert table_of(settings).labels.tolist() == [0, 1, 2]


def test_measurements_are_not_classes(tmp_path: Path) -> None:
    rows = "".join(f"{n}.png,{n / 7:.3f}\n" for n in range(1, 31))
    with pytest.raises(DataError, match=r"no-label.*30 different numbers, as measurements have"):
        infer_columns(csv_file(tmp_path, f"image,label\n{rows}", "1.png"))


def files(folder: Path, **contents: str) -> list[Path]:
    for name, rows in contents.items():
        (folder / f"{name}.csv").write_text(f"image,label\n{rows}")
    for number in range(6):
        (folder / f"{number}.png").touch()
    return [folder / f"{name}.csv" for name in contents]


def test_a_file_per_split_is_one_dataset(tmp_path: Path) -> None:
    paths = files(
        tmp_path, sample="0.png,a", test_set="4.png,a\n", trainLabels="0.png,a\n1.png,b\n2.png,b\n",
        Valid="3.png,b\n",
    )  # fmt: skip
    settings, remarks = csv_files_settings(paths)
    assert settings["labels"] == "trainLabels.csv"
    assert settings["test_labels"] == "test_set.csv"
    assert settings["validation_labels"] == "Valid.csv"
    assert remarks["labels"] == "Not used: sample.csv."


def test_a_file_that_cannot_be_a_split_is_named_with_the_reason(tmp_path: Path) -> None:
    train, test, _ = files(tmp_path, train="0.png,a\n1.png,b\n", test="", val="9.png,a\n")
    test.write_text("image\n4.png\n")
    settings, remarks = csv_files_settings([train, test, tmp_path / "val.csv"])
    assert not {"test_labels", "validation_labels"} & settings.keys()
    assert "test.csv (there is no column 'label')" in remarks["labels"]
    assert "val.csv (its images are not below" in remarks["labels"]


def test_the_files_next_to_the_given_one_are_seen(tmp_path: Path) -> None:
    contents = {"labels": "0.png,a\n1.png,b\n", "test": "2.png,a\n", "tests": "3.png,b\n"}
    paths = files(tmp_path, **contents)
    settings, remarks = csv_files_settings(paths, paths[0])
    assert (settings["labels"], settings["test_labels"]) == ("labels.csv", "test.csv")
    assert remarks["labels"] == "Not used: tests.csv."


def test_a_given_test_file_is_not_joined_with_others(tmp_path: Path) -> None:
    paths = files(tmp_path, train="0.png,a\n1.png,b\n", test="2.png,a\n3.png,b\n", val="4.png,a\n")
    settings, remarks = csv_files_settings(paths, paths[1])
    assert settings["labels"] == "test.csv"
    assert not {"test_labels", "validation_labels"} & settings.keys()
    assert remarks["labels"] == "Not used: train.csv, val.csv."


def test_two_files_of_one_split_are_not_both_used(tmp_path: Path) -> None:
    paths = files(tmp_path, train="0.png,a\n1.png,b\n", val="2.png,a\n", valid="3.png,b\n")
    settings, remarks = csv_files_settings(paths)
    assert settings["validation_labels"] == "val.csv"
    assert remarks["labels"] == "Not used: valid.csv (like val.csv)."


def test_several_files_without_one_of_the_train_split_are_an_error(tmp_path: Path) -> None:
    paths = files(tmp_path, a="0.png,a\n", b="1.png,b\n")
    with pytest.raises(DataError, match=r"several-files.*give one: .*a\.csv"):
        csv_files_settings(paths)
    paths = files(tmp_path, a_train="0.png,a\n", b_train="1.png,b\n", aaa="2.png,b\n")
    with pytest.raises(DataError, match=r"several-files.*give one: .*a_train\.csv"):
        csv_files_settings(paths)
