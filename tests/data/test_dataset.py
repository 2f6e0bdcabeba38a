from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from sightx.builtin.datasets.csv import CsvDataset
from sightx.builtin.datasets.folder import ImageFolder
from sightx.builtin.preprocess import Resize
from sightx.builtin.splits import Given, Stratified
from sightx.data.dataset import load_split_table, prepare_dataset
from sightx.errors import LINE_LIMIT, DataError

CHAIN = (Resize(size=4),)


@pytest.fixture
def labels(folders):
    """Describe `folders` by a CSV of 48 rows; row n is on line n + 2."""
    paths = sorted(path.relative_to(folders).as_posix() for path in folders.rglob("*.png"))
    rows = [f"{path},{path.split('/')[1]},{path.split('/')[0]}\n" for path in paths]
    (folders / "labels.csv").write_text("image,label,side\n" + "".join(rows))
    return paths


@pytest.fixture
def get(folders, tmp_path):
    """Open and prepare `folders` with some settings of its dataset."""

    def get(split=None, **settings):
        dataset = CsvDataset(root=folders, split="side", **settings)
        table = load_split_table(dataset, split or Given())
        return prepare_dataset(table, dataset, CHAIN, faults=tmp_path / "faults.csv")

    return get


def problem(read, *arguments, **settings):
    with pytest.raises(DataError) as caught:
        read(*arguments, **settings)
    (found,) = caught.value.problems
    assert len(str(found)) <= LINE_LIMIT
    assert "\n" not in str(found)
    return found


def test_sides_point_at_rows_with_their_pixels(labels, get):
    data = get()

    assert {side: len(rows) for side, rows in data.splits.items()} == {
        "train": 24,
        "validation": 12,
        "test": 12,
    }
    assert data.counts("validation") == [6, 6]
    for side, rows in data.splits.items():
        assert set(data.table.frame["split"].iloc[rows]) == {side}
        means = data.rows.gather(rows).float().mean(dim=(1, 2, 3)).numpy()
        assert np.array_equal(means > 125, data.table.labels[rows] == 1)
    assert data.table.skipped == {}


def test_pixels_are_not_copied_where_nothing_is_bad(labels, get):
    rows = get().rows

    assert len(rows) == len(rows.pixels.tensor) == 48


def test_the_id_tells_content_and_labels_but_not_order_or_place(labels, get, folders, tmp_path):
    first = get().id
    header, *rows = (folders / "labels.csv").read_text().splitlines()
    (folders / "labels.csv").write_text("\n".join([header, *reversed(rows)]))
    assert get().id == first
    moved = shutil.copytree(folders, tmp_path / "moved")
    assert get(labels=str(moved / "labels.csv"), images=str(moved)).id == first
    (folders / "labels.csv").write_text(
        "\n".join([header, *rows]).replace("0.png,dark", "0.png,light", 1)
    )
    other = get().id
    shutil.copy(folders / labels[1], folders / labels[0])
    assert len({first, other, get().id}) == 3


def test_rows_on_no_side_take_no_memory(labels, get, folders):
    text = (folders / "labels.csv").read_text()
    whole = get()
    (folders / "labels.csv").write_text(text.replace(",test\n", ",\n"))

    data = get()

    assert len(data.rows.pixels.tensor) == 36
    assert (len(data.rows), len(data.table), data.id) == (48, 48, whole.id)
    for side in ("train", "validation"):
        rows = data.splits[side]
        assert torch.equal(data.rows.gather(rows), whole.rows.gather(rows))
    with pytest.raises(IndexError):
        data.rows.gather(whole.splits["test"])


# D03: files that are not there


def test_missing_files_are_counted_and_listed_before_anything_is_read(
    labels, get, tmp_path, folders
):
    for path in labels[5:12]:
        (folders / path).unlink()
    (folders / labels[20]).write_bytes(b"")

    found = problem(get)

    assert (found.code, found.line) == ("bad-images", 7)
    assert found.file == str(folders / "labels.csv")
    assert f"7 of 48 images are missing; first: {labels[5]}" in found.message
    assert f"{tmp_path.name}/faults.csv" in found.hint
    listed = pd.read_csv(tmp_path / "faults.csv")
    assert listed["path"].tolist() == labels[5:12]
    assert listed["row"].tolist() == list(range(7, 14))
    assert set(listed["reason"]) == {"missing"}


def test_where_all_are_missing_the_folder_is_asked_for(labels, get):
    found = problem(get, images="train")

    assert "48 of 48 images are missing" in found.message
    assert "train the folder of images?" in found.hint


def test_a_link_out_of_the_folder_ends_the_run_unopened(labels, get, folders, tmp_path):
    (folders / labels[3]).rename(tmp_path / "outside.png")
    (folders / labels[3]).symlink_to(tmp_path / "outside.png")

    found = problem(get)

    assert found.line == 5
    assert "leads out of the folder of images" in found.message


# D14: files that are damaged


@pytest.fixture
def damaged(labels, folders):
    """Damage four files in the four ways that days bring."""
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

    found = problem(get)

    assert found.code == "bad-images"
    assert found.line == 4
    assert f"4 of 48 images cannot be read; first: {labels[2]} (truncated)" in found.message
    listed = pd.read_csv(tmp_path / "faults.csv")
    assert listed["path"].tolist() == [labels[index] for index in damaged]
    assert listed["reason"].tolist()[:3] == ["truncated", "not an image", "empty file"]
    assert sorted(folders.rglob("*")) == before


def test_skip_leaves_them_out_and_counts_them(labels, damaged, get, tmp_path):
    whole = [path for index, path in enumerate(labels) if index not in damaged]

    data = get(on_bad_image="skip", bad_images_at_most=4 / 48)

    assert data.table.frame["path"].tolist() == whole
    assert data.table.skipped == {labels[index]: reason for index, reason in damaged.items()}
    assert pd.read_csv(tmp_path / "faults.csv").equals(as_listed(labels, damaged))
    assert len(data.rows) == 44
    means = data.rows.gather(np.arange(44)).float().mean(dim=(1, 2, 3)).numpy()
    assert np.array_equal(means > 125, data.table.labels == 1)


def test_skip_is_capped(damaged, get):
    found = problem(get, on_bad_image="skip", bad_images_at_most=3.9 / 48)

    assert "4 of 48 images cannot be read" in found.message
    assert "bad_images_at_most is 0.08125" in found.message


def test_too_many_missing_files_are_not_decoded_first(labels, get, folders, monkeypatch):
    for path in labels[:10]:
        (folders / path).unlink()
    monkeypatch.setattr("sightx.data.dataset.load_or_build", None)

    assert "10 of 48 images are missing" in problem(get, on_bad_image="skip").message


def test_the_list_of_faults_is_what_exclude_takes(labels, damaged, get, tmp_path, folders):
    problem(get, on_bad_image="skip", bad_images_at_most=3 / 48)
    listed = shutil.copy(tmp_path / "faults.csv", folders / "excluded.csv")

    data = get(exclude=listed)

    assert len(data.table) == 44
    assert data.table.skipped == {labels[index]: reason for index, reason in damaged.items()}
    assert data.id == get(on_bad_image="skip", bad_images_at_most=0.5).id


def test_a_long_way_still_fits_in_a_line(labels, damaged, folders, tmp_path, monkeypatch):
    dataset = CsvDataset(root=folders, split="side", on_bad_image="skip", bad_images_at_most=0.05)
    deep = tmp_path / ("x" * 60)
    deep.mkdir()

    found = problem(
        prepare_dataset, load_split_table(dataset, Given()), dataset, CHAIN, faults=deep / "bad.csv"
    )

    for words in (str(folders / "labels.csv:4"), labels[2], f"{'x' * 60}/bad.csv"):
        assert words in str(found)
    monkeypatch.chdir(tmp_path)
    found = problem(
        prepare_dataset, load_split_table(dataset, Given()), dataset, CHAIN, faults=deep / "bad.csv"
    )
    assert f"--set dataset.exclude={'x' * 60}/bad.csv" in str(found)


# Tables that cannot be used


def test_a_path_to_exclude_that_is_none_is_an_error(labels, get, folders):
    (folders / "excluded.csv").write_text(f"path,reason\n{labels[0]},x\ntrain/dark/12.png,x\n")

    found = problem(get, exclude=folders / "excluded.csv")

    assert (found.code, found.line) == ("exclude-unknown", 3)
    assert "did you mean" in found.hint


def test_excluding_everything_is_an_error(labels, get, folders):
    rows = "".join(f"{path},x\n" for path in labels)
    (folders / "excluded.csv").write_text(f"path,reason\n{rows}")

    found = problem(get, exclude=folders / "excluded.csv")

    assert found.code == "no-samples"
    assert found.file.endswith("excluded.csv")


def test_an_exclude_file_that_is_not_there_is_named(labels, get, folders):
    assert problem(get, exclude=folders / "x.csv").code == "unreadable"
    unset = problem(get, exclude=type(folders)("@out/x.csv"))
    assert (unset.code, unset.path) == ("missing-data", "dataset.exclude")


def test_a_header_alone_has_no_samples(get, folders):
    (folders / "labels.csv").write_text("image,label,side\n")

    for split in (Given(), Stratified()):
        found = problem(get, split)
        assert found.code == "no-samples"
        assert found.file == str(folders / "labels.csv")


def test_nobody_trains_without_a_training_side(get, labels, folders):
    text = (folders / "labels.csv").read_text()
    (folders / "labels.csv").write_text(text.replace(",train\n", ",\n"))

    assert problem(get).code == "no-training"


def test_a_tree_of_folders_has_no_lines(folders, tmp_path):
    dataset = ImageFolder(root=folders)
    (folders / "val" / "dark" / "3.png").write_bytes(b"")

    found = problem(
        prepare_dataset,
        load_split_table(dataset, Given()),
        dataset,
        CHAIN,
        faults=tmp_path / "faults.csv",
    )

    assert found.line == 0
    assert found.file == str(folders)
    assert "val/dark/3.png (empty file)" in found.message
