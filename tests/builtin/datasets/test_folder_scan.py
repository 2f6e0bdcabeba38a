"""What counts as an image of a class, and what is doubtful."""

from __future__ import annotations

import pytest

from sightx.builtin.datasets.folder import ImageFolder


def survey(root):
    return ImageFolder(root=root, layout="flat").table().survey


def test_images_are_known_by_their_first_bytes(plant):
    root = plant("a/1.jfif", "a/2", "a/3.png", "b/1.PNG.bak")
    (root / "a" / "notes").write_text("BMI,age\n1,2\n")  # BM begins a bitmap, too
    (root / "a" / "page").write_text("P1 is a patient")

    table = ImageFolder(root=root, layout="flat").table()

    assert table.frame["path"].tolist() == ["a/1.jfif", "a/2", "a/3.png", "b/1.PNG.bak"]
    assert table.survey.lines() == [
        "not used: 2 files that are not images (no ending), such as a/notes"
    ]


@pytest.mark.parametrize(
    ("paths", "message", "hint"),
    [
        (["a/masks/1.png"], "1 image looks like masks", 'ignore = ["masks"]'),
        (["a/thumbnails/1.png"], "1 image looks like masks", 'ignore = ["thumbnails"]'),
        (["a/1_mask.png", "a/1_mask_2.png"], "2 images look like masks", 'ignore = ["*_mask*"]'),
        (
            ["a/train/1.png", "a/test/1.png"],
            "2 images are in folders of splits",
            'layout = "class-split"',
        ),
        (["masks/1.png"], "the class 'masks' is called like a folder of all images", "too high"),
    ],
)
def test_masks_thumbnails_and_splits_inside_a_class_are_doubtful(plant, paths, message, hint):
    root = plant("a/1.png", "b/1.png", *paths)
    (doubt,) = survey(root).doubts
    assert message in doubt.message
    assert hint in doubt.hint


def test_names_to_ignore_are_left_out_as_the_hint_says(plant):
    root = plant("a/1.png", "a/1_mask.png", "a/masks/1.png", "b/1.png", "b/deep/x/1.png")
    dataset = ImageFolder(root=root, layout="flat", ignore=("*_mask*", "masks", "b/deep"))
    assert dataset.table().frame["path"].tolist() == ["a/1.png", "b/1.png"]
    assert dataset.table().survey.doubts == ()


def test_formats_that_are_not_supported_are_named(plant):
    root = plant("a/1.png", "b/1.png")
    (root / "a" / "2.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "a" / "3").write_bytes(b"\0" * 128 + b"DICM")
    for name in ("4.NEF", "5.NEF"):
        (root / "b" / name).write_bytes(b"II*\0")

    doubts = survey(root).doubts

    assert [doubt.message for doubt in doubts] == [
        "1 image is of the format DICOM, which is not supported, such as a/3",
        "1 image is of the format HEIC, which is not supported, such as a/2.heic",
        "2 images are of the format camera raw, which is not supported, such as b/4.NEF",
    ]
    assert [doubt.hint for doubt in doubts] == [
        f"convert {them} to JPEG or PNG" for them in ("it", "it", "them")
    ]
