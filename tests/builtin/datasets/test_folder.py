from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder as Reference

from sightx.builtin.datasets.folder import ImageFolder
from sightx.data.cache.file_hashes import stat_files
from sightx.data.checks import check_missing_files
from sightx.errors import LINE_LIMIT, DataError, SpecError
from sightx.plugin import IncompleteTableError


def problem(**settings):
    with pytest.raises(DataError) as caught:
        ImageFolder(**settings).table()
    found, *_ = caught.value.problems
    assert len(str(found)) <= LINE_LIMIT
    assert found.file
    assert found.hint
    return found


TREE = (
    "train/b/2.png", "train/b/10.JPG", "train/b/deep/1.png", "train/b/a/x/7.png",
    "train/b/z.png", "train/Zebra/1.webp", "train/a b/1.tiff", "train/a b/0.png",
)  # fmt: skip


def test_samples_and_classes_are_those_of_torchvision(plant):
    root = plant(*TREE, "val/b/1.png", "val/Zebra/1.png", "val/a b/1.png", "test/b/1.png")
    (root / "train" / "b" / "notes.txt").write_text("no image")

    table = ImageFolder(root=root).table()

    reference = Reference(str(root / "train"))
    train = table.frame[table.frame["split"] == "train"]
    assert table.classes == tuple(reference.classes)
    assert [
        (str(root / path), label) for path, label in zip(train["path"], train["label"], strict=True)
    ] == reference.samples
    assert table.counts(train.index.to_numpy()) == [1, 2, 5]
    assert table.frame["split"].tolist() == ["train"] * 8 + ["validation"] * 3 + ["test"]
    assert table.read(3) == (root / train["path"].iat[3]).read_bytes()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "DEV", "eval", "Valid Set"])
def test_the_validation_split_has_several_names(plant, name):
    root = plant("train/a/1.png", "train/b/1.png", f"{name}/a/1.png", f"{name}/b/1.png")

    table = ImageFolder(root=root).table()

    assert table.frame["split"].tolist() == ["train"] * 2 + ["validation"] * 2


def test_the_folder_of_a_split_may_contain_it_once_more(plant):
    root = plant("seg_train/seg_train/a/1.png", "seg_train/seg_train/b/1.png",
                 "seg_test/seg_test/a/1.png", "seg_test/seg_test/b/1.png")  # fmt: skip
    frame = ImageFolder(root=root).table().frame
    assert frame["path"].iat[0] == "seg_train/seg_train/a/1.png"
    assert frame["split"].tolist() == ["train", "train", "test", "test"]


def test_two_folders_for_one_split_are_refused(plant):
    root = plant("train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/b/1.png")

    assert "val and valid" in problem(root=root).message


def test_flat_has_classes_at_the_root(plant):
    root = plant("cat/1.png", "dog/1.png", "dog/more/2.png")
    dataset = ImageFolder(root=root, layout="flat")

    table = dataset.table()

    assert table.frame["path"].tolist() == ["cat/1.png", "dog/1.png", "dog/more/2.png"]
    assert "split" not in table.frame
    assert not dataset.traits().has_split
    assert ImageFolder(root=root).traits().has_split
    found = problem(root=root)
    assert (found.code, found.file) == ("no-split", str(root))
    assert "cat, dog" in found.message
    assert "flat" in found.hint


@pytest.mark.parametrize("names", [("test", "control"), ("train", "tram")])
def test_classes_called_like_splits_lead_to_the_flat_layout(plant, names):
    found = problem(root=plant(*(f"{name}/1.png" for name in names)))
    assert found.hint.startswith('set dataset.layout = "flat"')


def test_classes_come_in_the_order_declared(plant):
    root = plant("train/mild/1.png", "train/none/1.png", "val/none/1.png")
    dataset = ImageFolder(root=root, classes=("none", "mild"), ordered=True)

    table = dataset.table()

    assert table.classes == dataset.traits().classes == ("none", "mild")
    assert table.frame["path"].tolist() == [
        "train/none/1.png",
        "train/mild/1.png",
        "val/none/1.png",
    ]
    assert table.labels.tolist() == [0, 1, 0]
    assert table.ordered


def test_folders_of_one_class_are_one_class(plant):
    root = plant(
        "train/1/a.png", "train/01/b.png", "train/2/c.png", "train/10/d.png", "val/1.0/e.png"
    )

    table = ImageFolder(root=root, ordered=True).table()

    assert table.classes == ("1", "2", "10")
    assert table.frame[["path", "label"]].to_numpy().tolist() == [
        ["train/01/b.png", 0], ["train/1/a.png", 0], ["train/2/c.png", 1], ["train/10/d.png", 2],
        ["val/1.0/e.png", 0],
    ]  # fmt: skip


def test_unicode_forms_of_a_folder_are_one_class(plant):
    root = plant("train/cafe\u0301/1.png", "train/x/1.png", "val/caf\u00e9/1.png")

    for classes in (None, ("x", "caf\u00e9"), ("x", "cafe\u0301")):
        table = ImageFolder(root=root, classes=classes).table()
        assert table.classes == (("x", "caf\u00e9") if classes else ("caf\u00e9", "x"))
        assert table.counts() == ([1, 2] if classes else [2, 1])
        assert table.read(len(table) - 1)


def test_folders_that_differ_in_case_are_named_unless_both_are_declared(plant):
    root = plant("train/Cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/cat/2.png")

    found = problem(root=root)

    assert found.code == "class-spelling"
    assert "'cat' (2) and 'Cat' (1)" in found.message
    root = plant("train/cat/3.png")
    assert ImageFolder(root=root, classes=("cat", "Cat", "dog")).table().counts() == [3, 1, 1]


def test_ordered_names_need_their_order(plant):
    root = plant("none/1.png", "mild/1.png", "severe/1.png")

    with pytest.raises(SpecError, match=r'classes = \["none", "mild", "severe"\]'):
        ImageFolder(root=root, layout="flat", ordered=True).table()
    assert not ImageFolder(root=root, layout="flat").table().ordered


def test_hidden_files_are_ignored(plant):
    root = plant(
        "train/a/1.png", "train/b/1.png", "train/a/._1.png", "train/a/.thumbs/1.png",
        "train/.ipynb_checkpoints/1.png",
    )  # fmt: skip

    table = ImageFolder(root=root).table()

    assert table.frame["path"].tolist() == ["train/a/1.png", "train/b/1.png"]


def test_one_class_is_not_enough(plant):
    found = problem(root=plant("train/a/1.png", "val/a/1.png"))

    assert found.code == "no-classes"
    assert "a" in found.message


def test_a_class_without_images_is_named(plant):
    root = plant("train/a/1.png", "train/b/1.png", "val/a/1.png")
    (root / "val" / "b").mkdir()
    assert ImageFolder(root=root).table().counts() == [2, 1]  # a split may lack a class

    (root / "train" / "c").mkdir()
    found = problem(root=root)
    assert (found.code, found.file) == ("empty-class", str(root / "train" / "c"))
    (root / "train" / "c" / "1.heic").write_bytes(b"x")
    assert problem(root=root).message.endswith("; 1 other file")


def test_a_class_that_the_train_split_lacks_is_named(plant):
    root = plant("train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dgo/1.png")

    found = problem(root=root)

    assert (found.code, found.file) == ("class-unknown", str(root / "val"))
    assert "'dgo'" in found.message
    assert found.hint == "did you mean 'dog'?"


def test_a_class_that_only_validation_has_is_reported_once(plant):
    root = plant("train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/cow/1.png")
    with pytest.raises(IncompleteTableError) as caught:
        ImageFolder(root=root).table()
    assert [(p.code, p.file) for p in caught.value.problems] == [("class-unknown", f"{root}/val")]
    assert caught.value.table.classes == ("cat", "dog")
    assert len(caught.value.table) == 3

    root = plant("one/train/cat/1.png", "one/val/cat/1.png", "one/val/cow/1.png") / "one"
    with pytest.raises(DataError) as caught:
        ImageFolder(root=root).table()
    assert [p.code for p in caught.value.problems] == ["class-unknown", "no-classes"]


def test_a_folder_that_is_not_a_class_is_refused(plant):
    root = plant("train/cat/1.png", "train/dog/1.png")

    found = problem(root=root, classes=("catt", "dog"))

    assert found.code == "class-unknown"
    assert "'cat' is not in dataset.classes" in found.message
    assert problem(root=root, classes=("cat", "dog", "cow")).code == "empty-class"


def test_a_link_to_a_folder_is_refused(plant):
    root = plant("train/a/1.png", "train/b/1.png", "more/2.png")
    (root / "train" / "a" / "more").symlink_to(root / "more")

    assert problem(root=root).code == "linked-folder"


def test_a_name_that_is_not_utf8_is_named(plant):
    root = plant("train/a/1.png", "train/b/1.png")
    Path(os.fsdecode(os.fsencode(root) + b"/train/a/\xff.png")).touch()

    assert r"\udcff" in str(problem(root=root))


def test_real_cats_and_fish(shared):
    root = shared / "catfish64"

    table = ImageFolder(root=root).table()

    for split, name in {"train": "train", "validation": "val", "test": "test"}.items():
        rows = table.frame[table.frame["split"] == split]
        assert [str(root / path) for path in rows["path"]] == [
            path for path, _ in Reference(str(root / name)).samples
        ]
    assert table.counts() == [900, 550]


def survey(**settings):
    return ImageFolder(**settings).table().survey


def test_what_is_passed_over_is_counted_with_an_example(plant):
    root = plant(
        "train/a/1.png", "train/a/p7/2.png", "train/b/1.png", "train/loose.png", "masks/a/1.png",
        "train/__MACOSX/a/1.png", "train/a/.hidden.png",
    )  # fmt: skip
    (root / "readme.txt").write_text("x")
    (root / "train" / "b" / "Thumbs.db").write_text("x")

    assert set(survey(root=root).lines()) == {
        "not used: 1 folder that is not called like a split: masks",
        "not used: 1 file that is not an image (.txt): readme.txt",
        "not used: 2 files and folders that operating systems write, such as train/__MACOSX",
        "not used: 1 hidden file or folder: train/a/.hidden.png",
        "used: 1 image in a folder below that of a class, for which it counts: train/a/p7/2.png",
        "not used: 1 image outside of the folders of classes: train/loose.png",
    }
    assert survey(root=root).doubts == ()


@pytest.mark.parametrize("names", [("Train", "Test"), ("train", "cat"), ("dev", "eval")])
def test_classes_called_like_splits_are_doubtful(plant, names):
    root = plant(*(f"{name}/x/1.png" for name in names))
    (doubt,) = survey(root=root, layout="flat").doubts
    assert "called like a split" in doubt.message
    assert 'layout = "split"' in doubt.hint


def test_named_classes_are_a_choice(plant):
    root = plant("a/1.png", "b/1.png", "c/1.png", "c/2.png")
    found = problem(root=root, layout="flat", classes=("b", "a"))
    assert (found.code, 'others = "drop"' in found.hint) == ("class-unknown", True)

    table = ImageFolder(root=root, layout="flat", classes=("b", "a"), others="drop").table()

    assert table.frame["path"].tolist() == ["b/1.png", "a/1.png"]
    assert table.survey.lines() == [
        "not used: 2 images of 'c', which is not a class, such as c/1.png"
    ]
    (root / "B").mkdir()
    assert "'B'" in problem(root=root, layout="flat", classes=("b", "a"), others="drop").message


def test_folders_without_images_can_be_left_out(plant):
    root = plant("a/1.png", "b/1.png")
    (root / "docs").mkdir()
    assert 'others = "drop"' in problem(root=root, layout="flat").hint
    assert ImageFolder(root=root, layout="flat", others="drop").table().classes == ("a", "b")


def test_links_out_of_the_root_are_followed_only_if_the_spec_says_so(plant, tmp_path):
    root = plant("root/a/1.png", "root/b/1.png", "blobs/x", "more/3.png") / "root"
    (root / "a" / "2.png").symlink_to(tmp_path / "blobs" / "x")
    (root / "a" / "more").symlink_to(tmp_path / "more")
    (tmp_path / "more" / "circle").symlink_to(tmp_path / "more")
    assert "follow_links = true" in problem(root=root, layout="flat").hint
    dataset = ImageFolder(root=root, layout="flat", follow_links=True)
    table = dataset.table()
    assert table.frame["path"].tolist() == ["a/1.png", "a/2.png", "a/more/3.png", "b/1.png"]
    assert stat_files(table.take(np.array([1, 2]))).errors == {}
    assert table.take(np.array([1])).read(0) == (tmp_path / "blobs" / "x").read_bytes()

    (root / "a" / "more").unlink()
    strict = ImageFolder(root=root, layout="flat")
    with pytest.raises(DataError, match=r"1 of 3 images are links out of .*follow_links = true"):
        check_missing_files(strict.table(), strict)


def test_a_root_that_is_too_high_names_the_right_one(plant):
    root = plant("Brain/Training/a/1.png", "Brain/Training/b/1.png", "docs/x.png")
    assert f"--set dataset.root={root / 'Brain'}" in problem(root=root).hint
    high = plant("deep/in/a/1.png", "deep/in/b/1.png") / "deep"
    assert f"--set dataset.root={high / 'in'}" in problem(root=high, layout="flat").hint


def test_splits_inside_of_classes_are_read(plant):
    root = plant(
        "cat/train/1.png", "cat/Validation/1.png", "dog/train/1.png", "dog/train/deep/2.png",
        "dog/val/2.png", "dog/test/3.png", "dog/notes/4.png", "dog/5.png", "6.png",
    )  # fmt: skip
    table = ImageFolder(root=root, layout="class-split").table()
    assert table.classes == ("cat", "dog")
    assert ImageFolder(root=root, layout="class-split").traits().has_split
    assert list(table.frame[["path", "label", "split"]].itertuples(index=False, name=None)) == [
        ("cat/train/1.png", 0, "train"),
        ("dog/train/1.png", 1, "train"),
        ("dog/train/deep/2.png", 1, "train"),
        ("cat/Validation/1.png", 0, "validation"),
        ("dog/val/2.png", 1, "validation"),
        ("dog/test/3.png", 1, "test"),
    ]
    assert set(table.survey.lines()) == {
        "not used: 1 folder that is not called like a split: dog/notes",
        "not used: 1 image outside of the folders of splits: dog/5.png",
        "not used: 1 image outside of the folders of classes: 6.png",
        "used: 1 image in a folder below that of a class, for which it counts: "
        "dog/train/deep/2.png",
    }
    assert table.survey.doubts == ()


def test_the_layout_with_splits_inside_of_classes_is_proposed_and_checked(plant):
    root = plant("cat/train/1.png", "dog/train/1.png", "dog/val/1.png")
    way_out = 'layout = "class-split" in [dataset]'
    (doubt,) = survey(root=root, layout="flat").doubts
    assert doubt.hint.startswith(way_out)
    assert problem(root=root).hint.startswith(way_out)
    for split in ("test", "Val"):
        plant(f"cat/{split}/1.png", f"dog/{split}/1.png")
    found = problem(root=root, layout="class-split")
    assert (found.code, found.file) == ("two-folders", str(root / "dog"))
    plant("flat/a/1.png", "flat/b/1.png")
    assert problem(root=root / "flat", layout="class-split").code == "no-split"
    plant("late/a/train/1.png", "late/b/val/1.png")
    assert problem(root=root / "late", layout="class-split").code == "empty-class"


def test_links_to_folders_that_contain_them_and_to_themselves_are_passed_over(plant):
    root = plant("a/1.png", "b/1.png")
    (root / "a" / "up").symlink_to("..")
    (root / "self").symlink_to(".")
    (root / "b" / "loop").symlink_to("loop")
    os.mkfifo(root / "b" / "pipe")
    for follow_links in (True, False):
        table = ImageFolder(root=root, layout="flat", follow_links=follow_links).table()
        assert table.frame["path"].tolist() == ["a/1.png", "b/1.png"]
        assert set(table.survey.lines()) == {
            "not used: 2 links to folders that contain them, such as self",
            "not used: 2 files that are not images (no ending), such as b/loop",
        }


def test_folders_of_images_and_labels_are_not_classes(plant):
    root = plant("images/1.png", "images/2.png")
    (root / "labels").mkdir()
    found = problem(root=root, layout="flat")
    assert (found.code, found.hint.startswith("is dataset.root the folder of")) == (
        "empty-class",
        True,
    )
