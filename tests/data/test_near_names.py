from __future__ import annotations

import unicodedata

import pytest

from sightx.data.near_names import (
    Change,
    apply_change,
    common_change,
    describe_differences,
    nearest_files,
)


@pytest.fixture
def root(tmp_path):
    for path in (
        "images/i0.JPG", "images/i1.JPG", "images/café.png", "left/1.png", "right/1.png",
        "scans/a/scan 1.tif",
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("images/i0.jpg", "images/i0.JPG"),
        ("images/i0", "images/i0.JPG"),
        ("images/i0.png", "images/i0.JPG"),
        ("Images/I0.JPG", "images/i0.JPG"),
        ("images\\i0.JPG", "images/i0.JPG"),
        (" images/ i0.JPG ", "images/i0.JPG"),
        ("images/images/i0.JPG", "images/i0.JPG"),
        ("i0.JPG", "images/i0.JPG"),
        ("C:\\data\\images\\i1.jpg", "images/i1.JPG"),
        (unicodedata.normalize("NFD", "images/café.png"), "images/café.png"),
        ("scan  1.tif", "scans/a/scan 1.tif"),
        ("left/1.jpg", "left/1.png"),
        ("scans/a/scan%201.tif", "scans/a/scan 1.tif"),
        ("1.png", ""),  # two files
        ("other/1.png", ""),
        ("i2.jpg", ""),
    ],
)
def test_a_name_that_differs_only_in_form_means_one_file(root, name, near):
    assert nearest_files(root, [name]).get(name, "") == near


def test_no_folder_has_no_file(tmp_path):
    assert nearest_files(tmp_path / "nothing", ["a.png"]).get("a.png", "") == ""


def test_the_differences_of_several_names_are_counted(root):
    names = ["i0.JPG", "images/i1.jpg", "Images/i0.jpg", "images/ i1.JPG", "left/1.gif", "left/2"]
    nearest = nearest_files(root, names)
    assert list(nearest) == names[:-1]
    assert describe_differences(nearest) == (
        "2 names differ in upper and lower case, 1 in the folder, 1 in blanks, 1 in the ending"
    )
    assert describe_differences({"a/i.jpg": "b/I.png"}) == (
        "1 name differs in upper and lower case and the ending and the folder"
    )


@pytest.mark.parametrize(
    ("nearest", "change"),
    [
        ({"a/1": "a/1.png", "b/2": "b/2.png"}, Change("", "", ".png")),
        ({"1.png": "in/1.png", "2.png": "in/2.png"}, Change("", "in", "")),
        ({"C:\\d\\a\\1.png": "a/1.png", "C:\\d\\b\\2.png": "b/2.png"}, Change("C:/d/", "", "")),
        ({"x/in/1.png": "in/1.png", "x/2.png": "2.png"}, Change("x/", "", "")),
        ({"x/1.png": "a/1.png", "x/2.png": "b/2.png"}, None),
        ({"1.PNG": "1.png"}, None),
        ({"1": "1.png", "2": "2.jpg"}, None),
        ({}, None),
    ],
)
def test_one_change_turns_all_names_into_files_or_there_is_none(nearest, change):
    assert common_change(nearest) == change
    if change:
        assert {name: apply_change(change, name) for name in nearest} == nearest
