from __future__ import annotations

import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest

from sightx.builtin.datasets.csv import CsvDataset
from sightx.builtin.datasets.folder import ImageFolder
from sightx.data.cache.file_hashes import stat_files
from sightx.data.checks import check_bad_images, check_copies, check_missing_files
from sightx.errors import DataError
from sightx.records.hashes import Hashes
from sightx.records.table import ImageTable
from support.experiments import prepared
from support.problems import problem_of

# D03: missing files


def test_missing_files_are_counted_and_listed_before_anything_is_read(
    labels, get, tmp_path, folders
):
    for path in labels[5:12]:
        (folders / path).unlink()
    (folders / labels[20]).write_bytes(b"")

    found = problem_of(get)

    assert (found.code, found.line) == ("bad-images", 7)
    assert found.file == str(folders / "labels.csv")
    assert f"7 of 48 images are missing; first: {labels[5]}" in found.message
    assert f"{tmp_path.name}/bad.csv" in found.hint
    listed = pd.read_csv(tmp_path / "bad.csv")
    assert listed["path"].tolist() == labels[5:12]
    assert listed["row"].tolist() == list(range(7, 14))
    assert set(listed["reason"]) == {"missing"}


def test_if_all_are_missing_the_folder_is_doubted(labels, get):
    found = problem_of(get, images="train")

    assert "48 of 48 images are missing" in found.message
    assert "train the folder of images?" in found.hint
    assert found.hint.endswith('set images = "." in [dataset]')
    assert len(get(images=".").table) == 48


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("{stem}.PNG", "did you mean {path}?"),
        ("{stem}", "did you mean {path}?"),
        ("data/{path}", "did you mean {path}?"),
    ],
)
def test_a_missing_file_with_a_near_name_is_offered(tmp_path, cell, hint):
    (tmp_path / "images").mkdir()
    rows = ["image,label"]
    for number in range(4):
        path = f"images/{number}.png"
        (tmp_path / path).touch()
        rows.append(
            f"{cell.format(path=path, stem=path[:-4]) if number == 2 else path},{number % 2}"
        )
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    dataset = CsvDataset(root=tmp_path)
    with pytest.raises(DataError) as caught:
        check_missing_files(dataset.table(), dataset)
    assert "1 of 4 images are missing" in str(caught.value)
    assert hint.format(path="images/2.png") in str(caught.value)


def write_labels(folder, cells):
    rows = [f'"{cell}",{number % 2}' for number, cell in enumerate(cells)]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows]))


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        ("images/{}", {"suffix": ".png"}),
        ("images/images/{}.png", {"strip_prefix": "images/"}),
        ("{}.png", {"images": "images"}),
        (
            "D:\\pictures\\{}",
            {"strip_prefix": "D:/pictures/", "images": "images", "suffix": ".png"},
        ),
    ],
)
def test_the_settings_that_the_hint_names_find_all_images(tmp_path, cell, settings):
    (tmp_path / "images").mkdir()
    for number in range(4):
        (tmp_path / "images" / f"{number}.png").touch()
    write_labels(tmp_path, [cell.format(number) for number in range(4)])
    with pytest.raises(DataError, match="4 of 4 images are missing") as caught:
        check_missing_files(CsvDataset(root=tmp_path).table(), CsvDataset(root=tmp_path))
    hint = caught.value.problems[0].hint
    assert hint.startswith("did you mean images/0.png? set ")
    assert hint.endswith(" in [dataset]")
    assert tomllib.loads(hint.partition(" set ")[2][:-13].replace(" and ", "\n")) == settings
    dataset = CsvDataset(root=tmp_path, **settings)
    check_missing_files(dataset.table(), dataset)


@pytest.mark.parametrize("folder", ["a", "."])
def test_images_in_several_folders_are_found_by_the_settings_of_the_hint(tmp_path, folder):
    write_labels(tmp_path, [f"{number}.png" for number in range(8)])
    for number in range(8):
        path = tmp_path / ("a" if number % 2 else "b/deep") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    dataset = CsvDataset(root=tmp_path, images=folder)
    with pytest.raises(DataError) as caught:
        check_missing_files(dataset.table(), dataset)
    (found,) = caught.value.problems
    assert ("among them all of '0'" in found.message) == (folder == "a")
    settings = found.hint.partition("set ")[2].partition(" in [dataset]")[0]
    values = tomllib.loads(settings.replace(" and ", "\n"))
    dataset = CsvDataset(root=tmp_path, **{"images": folder, **values})
    check_missing_files(dataset.table(), dataset)
    assert dataset.table().frame["path"].tolist()[:2] == ["b/deep/0.png", "a/1.png"]


def test_a_class_that_is_missing_is_not_to_be_left_out(tmp_path):
    cells = [f"{number}.png" for number in range(40)]
    write_labels(tmp_path, cells)
    for cell in cells[1::2]:
        (tmp_path / cell).touch()
    dataset = CsvDataset(root=tmp_path)
    message = r"20 of 40 .* all of '0'.* the folder of all images"
    with pytest.raises(DataError, match=message) as caught:
        check_bad_images(
            dataset.table(), stat_files(dataset.table()).errors, dataset, tmp_path / "bad.csv"
        )
    assert "exclude" not in str(caught.value)


def test_near_names_of_all_missing_images_are_counted_and_listed(tmp_path):
    (tmp_path / "im").mkdir()
    for name in ("0.JPG", "1.JPG", "2.jpg", "caf\u00e9.jpg", "a b.jpg"):
        (tmp_path / "im" / name).touch()
    cells = ["im/0.jpg", "im/1.jpg", "im/2.png", "im/cafe\u0301.jpg", "im/a%20b.jpg", "im/9.jpg"]
    write_labels(tmp_path, cells)
    dataset = CsvDataset(root=tmp_path)
    with pytest.raises(DataError, match="6 of 6 images are missing") as caught:
        check_bad_images(
            dataset.table(), stat_files(dataset.table()).errors, dataset, tmp_path / "bad.csv"
        )
    assert caught.value.problems[0].hint == (
        "did you mean im/0.JPG? 2 names differ in upper and lower case, 1 in the ending, "
        "1 in the Unicode form, 1 in percent escapes"
    )
    reasons = pd.read_csv(tmp_path / "bad.csv")["reason"].tolist()
    assert reasons[0] == "missing; near name: im/0.JPG"
    assert reasons[-1] == "missing"


def test_images_of_a_format_that_is_not_supported_are_named(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"\0\0\0\x18ftypheic")  # as phones send them
    dataset = ImageFolder(root=tmp_path, layout="flat")
    table = dataset.table()
    with pytest.raises(DataError, match=r"HEIC is not supported\); convert them to JPEG or PNG"):
        check_bad_images(table, {0: "HEIC is not supported"}, dataset, None)


def test_a_link_out_of_the_folder_ends_the_run_unopened(labels, get, folders, tmp_path):
    (folders / labels[3]).rename(tmp_path / "outside.png")
    (folders / labels[3]).symlink_to(tmp_path / "outside.png")

    found = problem_of(get)

    assert found.line == 5
    assert "leads out of the folder of images" in found.message


# D14: files that are damaged


@pytest.fixture
def damaged(labels, folders):
    """Damage four files in four ways."""
    whole = (folders / labels[2]).read_bytes()
    (folders / labels[2]).write_bytes(whole[: len(whole) // 2])
    (folders / labels[9]).write_bytes(b"<!doctype html><title>404</title>")
    (folders / labels[30]).write_bytes(b"")
    (folders / labels[47]).unlink()
    return {2: "truncated", 9: "not an image", 30: "empty file", 47: "missing"}


def as_listed(labels, damaged):
    rows = [(labels[index], reason, index + 2) for index, reason in damaged.items()]
    return pd.DataFrame(rows, columns=["path", "reason", "row"])


def test_damaged_files_are_listed_and_end_the_run(labels, damaged, get, folders, tmp_path):
    (folders / labels[47]).write_bytes(b"GIF89a")
    before = sorted(folders.rglob("*"))

    found = problem_of(get)

    assert found.code == "bad-images"
    assert found.line == 4
    assert f"4 of 48 images cannot be read; first: {labels[2]} (truncated)" in found.message
    listed = pd.read_csv(tmp_path / "bad.csv")
    assert listed["path"].tolist() == [labels[index] for index in damaged]
    assert listed["reason"].tolist()[:3] == ["truncated", "not an image", "empty file"]
    assert sorted(folders.rglob("*")) == before


def test_skip_leaves_them_out_and_counts_them(labels, damaged, get, tmp_path):
    whole = [path for index, path in enumerate(labels) if index not in damaged]

    data = get(on_bad_image="skip", bad_images_at_most=4 / 48)

    assert data.table.frame["path"].tolist() == whole
    assert data.table.skipped == {labels[index]: reason for index, reason in damaged.items()}
    assert pd.read_csv(tmp_path / "bad.csv").equals(as_listed(labels, damaged))
    assert len(data.rows) == 44
    means = data.rows.gather(np.arange(44)).float().mean(dim=(1, 2, 3)).numpy()
    assert np.array_equal(means > 125, data.table.labels == 1)


def test_skip_is_capped(damaged, get):
    found = problem_of(get, on_bad_image="skip", bad_images_at_most=3.9 / 48)

    assert "4 of 48 images cannot be read" in found.message
    assert "bad_images_at_most is 0.08125" in found.message


def test_too_many_missing_files_are_not_decoded_first(labels, get, folders, monkeypatch):
    for path in labels[:10]:
        (folders / path).unlink()
    monkeypatch.setattr("sightx.data.dataset.load_or_build", None)

    assert "10 of 48 images are missing" in problem_of(get, on_bad_image="skip").message


def test_exclude_accepts_the_list_of_bad_images(labels, damaged, get, tmp_path, folders):
    problem_of(get, on_bad_image="skip", bad_images_at_most=3 / 48)
    listed = shutil.copy(tmp_path / "bad.csv", folders / "excluded.csv")

    data = get(exclude=listed)

    assert len(data.table) == 44
    assert data.table.skipped == {labels[index]: reason for index, reason in damaged.items()}
    assert data.id == get(on_bad_image="skip", bad_images_at_most=0.5).id


def test_a_long_path_still_fits_in_a_line(labels, damaged, folders, tmp_path, monkeypatch):
    dataset = CsvDataset(root=folders, split="split", on_bad_image="skip", bad_images_at_most=0.05)
    deep = tmp_path / ("x" * 60)
    deep.mkdir()

    found = problem_of(prepared, dataset, deep / "bad.csv")

    for words in (str(folders / "labels.csv:4"), labels[2], f"{'x' * 60}/bad.csv"):
        assert words in str(found)
    monkeypatch.chdir(tmp_path)
    found = problem_of(prepared, dataset, deep / "bad.csv")
    assert f"--set dataset.exclude={'x' * 60}/bad.csv" in str(found)


def test_a_folder_per_class_has_no_lines(folders, tmp_path):
    dataset = ImageFolder(root=folders)
    (folders / "val" / "dark" / "3.png").write_bytes(b"")

    found = problem_of(prepared, dataset, tmp_path / "bad.csv")

    assert found.line == 0
    assert found.file == str(folders)
    assert "val/dark/3.png (empty file)" in found.message


# D05: the same image in two splits


@pytest.fixture
def copied(labels, folders):
    """Copy a training image to validation and test, and another one to validation.

    A copy within the training split is harmless.
    """
    for source, *targets in (
        ("train/dark/7.png", "val/light/2.png", "test/dark/0.png"),
        ("train/light/1.png", "val/light/5.png", "train/light/3.png"),
        ("train/dark/1.png", "train/dark/2.png"),
    ):
        for target in targets:
            shutil.copy(folders / source, folders / target)


def test_copies_across_splits_are_an_error(labels, copied, get, folders, tmp_path):
    found = problem_of(get)

    assert found.code == "copies-across-splits"
    assert found.message.startswith("2 images are in more than one split; first: train/")
    assert "/1.png (train) and val/" in found.message or "/7.png (train) and val/" in found.message
    listed = tmp_path / "copies-across-splits.csv"
    assert f"leave copies out: --set dataset.exclude={listed};" in found.hint
    assert 'allow = ["copies-across-splits"]' in found.hint
    assert found.file == str(folders / "labels.csv")
    table = pd.read_csv(listed)
    assert list(table.columns) == ["path", "reason", "split"]
    assert {path: (reason, split) for path, reason, split in table.to_numpy().tolist()} == {
        **{path: ("copies are labelled dark and light", split)
           for path, split in (("test/dark/0.png", "test"), ("train/dark/7.png", "train"),
                               ("val/light/2.png", "validation"))},
        "train/dark/2.png": ("a copy of train/dark/1.png", "train"),
        "train/light/1.png": ("a copy of val/light/5.png", "train"),
        "train/light/3.png": ("a copy of val/light/5.png", "train"),
    }  # fmt: skip
    assert len(get(exclude=listed).table) == 42


def test_the_list_of_copies_contains_what_is_excluded(labels, copied, get, tmp_path):
    (tmp_path / "mine.csv").write_text("path,reason\nval/light/0.png,blurred\n")
    problem_of(get, exclude=tmp_path / "mine.csv")
    listed = tmp_path / "copies-across-splits.csv"
    assert listed.read_text().splitlines()[:2] == ["path,reason,split", "val/light/0.png,blurred,"]
    assert len(get(exclude=listed).table) == 41


def test_copies_that_are_allowed_are_a_warning(copied, get, caplog, tmp_path):
    data = get(allow=("copies-across-splits", "conflicting-copies"))

    (line,) = [message for message in caplog.messages if "copies-across-splits" in message]
    assert "warning[copies-across-splits] 2 images are in more than one split" in line
    assert "copies-across-splits.csv" in line
    assert len(data.table) == 48
    assert (tmp_path / "copies-across-splits.csv").is_file()


def test_copies_in_one_split_or_in_none_are_allowed(labels, get, folders, tmp_path):
    shutil.copy(folders / "train/dark/1.png", folders / "train/dark/2.png")
    shutil.copy(folders / "train/dark/1.png", folders / "val/dark/2.png")
    rows = (folders / "labels.csv").read_text()
    (folders / "labels.csv").write_text(
        rows.replace("val/dark/2.png,dark,val", "val/dark/2.png,dark,")
    )

    assert len(get().table) == 48
    assert not (tmp_path / "copies-across-splits.csv").exists()


def test_many_copies_with_other_labels_are_an_error(labels, get, folders):
    shutil.copy(folders / "train/dark/1.png", folders / "train/light/2.png")

    found = problem_of(get)

    assert found.code == "conflicting-copies"
    assert found.message == (
        "1 image is a copy with another label than the original; "
        "first: train/dark/1.png (dark) and train/light/2.png (light)"
    )
    assert found.line == labels.index("train/light/2.png") + 2
    assert 'allow = ["conflicting-copies"]' in found.hint


def test_few_copies_with_other_labels_are_a_warning(labels, get, folders, caplog, monkeypatch):
    monkeypatch.setattr("sightx.data.checks.CONFLICT_SHARE", 2 / 48)
    shutil.copy(folders / "train/dark/1.png", folders / "train/light/2.png")

    assert len(get().table) == 48
    assert [line for line in caplog.messages if "warning[conflicting-copies] 1 image" in line]


def test_bad_images_of_the_same_content_are_not_copies(labels, get, folders):
    for path in ("train/dark/1.png", "val/dark/1.png"):
        (folders / path).write_bytes(b"")

    assert len(get(on_bad_image="skip", bad_images_at_most=0.5).table) == 46


def test_unknown_hashes_are_not_copies(tmp_path):
    frame = pd.DataFrame({"path": ["a", "b", "c"], "label": 0, "group": ""})
    table, splits = ImageTable(frame, ("x",), lambda index: b""), {
        "train": np.array([0, 1]), "validation": np.array([2]), "test": np.array([], int)
    }  # fmt: skip
    check_copies(
        table, Hashes.unknown(3), splits, ImageFolder(root=tmp_path), tmp_path / "copies.csv"
    )

    hashes = Hashes.from_hex(["", "ab" * 31 + "00", "ab" * 31 + "00"])
    with pytest.raises(
        DataError, match=r"1 image is in more than one split; first: b \(train\) and c "
    ):
        check_copies(table, hashes, splits, ImageFolder(root=tmp_path), tmp_path / "copies.csv")
