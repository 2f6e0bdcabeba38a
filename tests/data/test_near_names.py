from __future__ import annotations

import unicodedata

import pytest

from sightx.data.near_names import nearest_file


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
        ("1.png", ""),  # two files
        ("other/1.png", ""),
        ("i2.jpg", ""),
    ],
)
def test_a_name_that_differs_only_in_form_means_one_file(root, name, near):
    assert nearest_file(root, name) == near


def test_no_folder_has_no_file(tmp_path):
    assert nearest_file(tmp_path / "nothing", "a.png") == ""
