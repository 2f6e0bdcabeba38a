from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from sightx.builtin.datasets.csv import GRADES, CsvDataset, EyePacs, patient
from sightx.errors import LINE_LIMIT, DataError


def test_any_columns_can_be_named(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in "ab":
        Image.new("RGB", (4, 4), "red").save(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "list.csv").write_text("who,file,kind,fold\np,a,dog,train\np,b,cat,val\n")
    dataset = CsvDataset(
        root=tmp_path,
        labels="list.csv",
        images="pictures",
        image="file",
        label="kind",
        group="who",
        split="fold",
        suffix=".png",
    )

    table = dataset.table()

    expected = {
        "path": ["a.png", "b.png"],
        "label": [1, 0],
        "line": [2, 3],
        "group": ["p", "p"],
        "split": ["train", "validation"],
    }
    assert table.frame.to_dict("list") == expected
    assert table.classes == ("cat", "dog")
    assert table.read(1) == (tmp_path / "pictures" / "b.png").read_bytes()
    assert table.root == tmp_path / "pictures"
    assert (dataset.traits().has_groups, dataset.traits().has_split) == (True, True)


def test_traits_without_columns_promise_nothing(tmp_path):
    traits = CsvDataset(root=tmp_path).traits()

    assert (traits.classes, traits.has_groups, traits.has_split) == (None, False, False)


@pytest.mark.parametrize("classes", [("a",), ("a", "a"), ("a", ""), ()])
def test_classes_are_two_different_names_or_more(tmp_path, classes):
    with pytest.raises(ValidationError):
        CsvDataset(root=tmp_path, classes=classes)


@pytest.mark.parametrize(("one", "other"), [("0", "0.0"), ("caf\u00e9", "cafe\u0301"), ("a", "a ")])
def test_two_spellings_of_a_class_are_listed_twice(tmp_path, one, other):
    with pytest.raises(ValidationError, match=r"listed twice: .* and "):
        CsvDataset(root=tmp_path, classes=("x", one, other))
    assert CsvDataset(root=tmp_path, classes=("A", "a")).classes == ("A", "a")


def test_the_patient_is_the_name_before_the_eye():
    names = ["10_left", "10_right", "10_1_left", "10", "10_l", "_left"]

    assert [patient(name) for name in names] == ["10", "10", "10_1", "10", "10_l", ""]


def test_eyepacs_that_is_not_there_says_how_to_get_it(tmp_path):
    for root in (Path("@eyepacs"), tmp_path / "nowhere"):
        with pytest.raises(DataError) as caught:
            EyePacs(root=root).table()
        line = str(caught.value)
        assert "kaggle competitions download -c diabetic-retinopathy-detection" in line
        assert "synthetic-fundus" in line
        assert len(line) <= LINE_LIMIT


def test_eyepacs_without_its_labels_names_the_file(tmp_path):
    with pytest.raises(DataError, match=r"trainLabels\.csv: error\[unreadable\]"):
        EyePacs(root=tmp_path).table()


# The real ones, where they are


def test_real_eyepacs_has_two_eyes_of_most_patients(shared):
    root = shared / "eyepacs256"
    table = EyePacs(root=root, images="images").table()

    raw = pd.read_csv(root / "trainLabels.csv")
    assert len(table) == 1700
    assert table.counts() == raw["level"].value_counts().sort_index().tolist()
    assert len(set(table.groups)) == 850
    assert table.classes == GRADES
    assert table.ordered
    assert table.line(1699) == 1701
    for index in (0, 1699):
        path = root / "images" / f"{raw['image'][index]}.jpeg"
        assert table.read(index) == path.read_bytes()


def test_the_whole_list_of_eyepacs_is_read_without_any_image(shared):
    root = shared / "eyepacs-labels"

    table = EyePacs(root=root).table()

    raw = pd.read_csv(root / "trainLabels.csv")
    assert len(table) == 35_126
    assert np.array_equal(table.labels, raw["level"])
    assert (table.frame["path"] == raw["image"] + ".jpeg").all()
    assert len(set(table.groups)) == raw["image"].str.split("_").str[0].nunique() == 17_563


def test_files_per_split_are_a_split_of_the_data(tmp_path):
    for name, row in {"train": "a,x\nb,y", "test": "c,x"}.items():
        (tmp_path / f"{name}.csv").write_text(f"image,label\n{row}\n")
    dataset = CsvDataset(root=tmp_path, labels="train.csv", test_labels="test.csv")
    assert dataset.traits().has_split
    assert dataset.table().frame["split"].tolist() == ["train", "train", "test"]
    with pytest.raises(ValidationError, match="not both"):
        CsvDataset(root=tmp_path, test_labels="test.csv", split="fold")


def test_the_settings_for_unusual_files(tmp_path):
    (tmp_path / "labels.csv").write_text("a.png,x\nb.png,y\nc.png,z\n")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "blobs" / name).write_bytes(b"1")
        (tmp_path / "in" / name).symlink_to(tmp_path / "blobs" / name)
    settings = {"images": "in", "columns": ("image", "label"), "classes": ("x", "y")}
    table = CsvDataset(root=tmp_path, others="drop", follow_links=True, **settings).table()
    assert len(table) == 2
    assert table.read(1) == b"1"
    with pytest.raises(OSError, match="leads out"):
        CsvDataset(root=tmp_path, others="drop", **settings).table().read(1)
