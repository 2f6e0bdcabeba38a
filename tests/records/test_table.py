from __future__ import annotations

import errno
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FakeData

from sightx.data.decode.decoder import BadImage
from sightx.errors import DataError
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable, file_reader, resolve_below

FRAME = pd.DataFrame(
    {
        "path": ["a", "b", "c", "d"],
        "label": [0, 2, 2, 0],
        "group": ["p", "", "p", "b"],
        "line": [2, 3, 5, 6],
    }
)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


@pytest.fixture
def table():
    return ImageTable(FRAME, ("x", "y", "z"), IMAGES.__getitem__)


def test_a_table_counts_labels_groups_and_lines(table):
    assert len(table) == 4
    assert table.labels.tolist() == [0, 2, 2, 0]
    assert table.labels.dtype == np.int64
    assert table.counts() == [2, 0, 2]
    assert table.counts(np.array([1, 2, 3])) == [1, 0, 2]
    assert table.line(2) == 5


def test_a_sample_without_a_group_is_a_group_of_its_own(table):
    groups = table.groups

    assert groups[0] == groups[2]
    assert len(set(groups)) == 3  # the sample b is not in the group b


def test_take_keeps_rows_and_images_together(table):
    taken = table.take(np.array([3, 1, 2])).take(np.array([2, 0]))

    assert taken.frame["path"].tolist() == ["c", "d"]
    assert np.array_equal(taken.read(0), IMAGES[2])
    assert np.array_equal(taken.read(1), IMAGES[3])
    assert taken.frame.index.tolist() == [0, 1]


def test_without_remembers_why(table):
    left = table.without({"a": "blurred"}).without({"c": "cut"})

    assert left.frame["path"].tolist() == ["b", "d"]
    assert np.array_equal(left.read(1), IMAGES[3])
    assert left.skipped == {"a": "blurred", "c": "cut"}
    assert table.skipped == {}


def test_pixels_that_were_prepared_go_with_their_rows(table):
    rows = PixelRows.of(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    hashes = [f"{number:064x}" for number in range(1, 5)]
    named = table.with_frame(FRAME.assign(digest=hashes))
    packed = replace(named, prepared=rows, chain=({"use": "resize"},))

    left = packed.without({"b": "blurred"}).take(np.array([2, 0]))

    assert left.shape == (3, 5, 6)
    assert torch.equal(left.prepared.gather(np.arange(2)), rows.gather(np.array([3, 0])))
    assert list(named.contents) == hashes
    assert packed.contents is table.contents is None  # what was read is not what was hashed
    assert table.shape is None
    assert table.without({}) is table


# Files


def test_a_reader_reads_below_its_folder_and_can_be_sent_to_a_worker(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_bytes(b"1")
    read = pickle.loads(pickle.dumps(file_reader(tmp_path, ["x/a"])))

    assert read(0) == b"1"


def test_links_within_the_folder_are_followed(tmp_path):
    home = tmp_path / "home"
    (home / "x").mkdir(parents=True)
    (home / "x" / "a").write_bytes(b"1")
    (home / "b").symlink_to("x/a")
    (home / "y").symlink_to("x")
    (tmp_path / "door").symlink_to(home)  # the folder itself may be reached by a link

    assert file_reader(tmp_path / "door", ["b"])(0) == b"1"
    assert file_reader(tmp_path / "door", ["y/a"])(0) == b"1"


@pytest.mark.parametrize("path", ["file", "folder/secret", "../secret", "chain"])
def test_what_leads_out_is_refused(tmp_path, path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_bytes(b"1")
    (home / "file").symlink_to(tmp_path / "secret")
    (home / "folder").symlink_to(tmp_path)
    (home / "chain").symlink_to("file")

    with pytest.raises(OSError, match="leads out") as caught:
        resolve_below(os.path.realpath(home), path)
    assert caught.value.errno == errno.EXDEV


def test_a_folder_beside_that_begins_alike_is_outside(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home2").write_bytes(b"1")

    with pytest.raises(OSError, match="leads out"):
        resolve_below(os.path.realpath(tmp_path / "home"), "../home2")


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")

    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match="not a file"):
            resolve_below(os.path.realpath(tmp_path), name)
    with pytest.raises(FileNotFoundError):
        resolve_below(os.path.realpath(tmp_path), "nothing")


def test_a_table_knows_its_files_where_they_are_read_as_they_are(tmp_path):
    table = ImageTable(FRAME, ("x", "y", "z"), file_reader(tmp_path, ["d", "c", "b", "a"]))

    taken = table.take(np.array([3, 0, 1])).take(np.array([2, 0]))

    assert (taken.files.home, list(taken.files.paths)) == (os.path.realpath(tmp_path), ["c", "a"])
    assert replace(table, read=IMAGES.__getitem__).files is None
    assert replace(table, frame=FRAME[:3]).files is None


# Torch


def test_a_dataset_of_pil_images_makes_a_table():
    dataset = FakeData(size=5, image_size=(3, 4, 7), num_classes=3)

    table = ImageTable.from_torch(dataset, ("a", "b", "c"))

    for index in range(5):
        image, label = dataset[index]
        assert np.array_equal(table.read(index), np.asarray(image))
        assert table.labels[index] == int(label)


class OneHandle:
    """Read as from one open file: seek, then read."""

    def __init__(self):
        self.at = 0

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        self.at = index
        time.sleep(0.001)
        return IMAGES[self.at], 0


def test_a_dataset_is_asked_by_one_thread_at_a_time():
    table = ImageTable.from_torch(OneHandle(), ("a", "b"))
    table = pickle.loads(pickle.dumps(table))
    wanted = [0, 1, 2, 3] * 10

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(table.read, wanted))

    assert all(np.array_equal(image, IMAGES[n]) for image, n in zip(found, wanted, strict=True))


def test_a_dataset_of_tensors_goes_round_through_a_data_loader():
    images, labels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2), torch.tensor([0, 1, 1, 0])

    table = ImageTable.from_torch(TensorDataset(images, labels), ("a", "b"))
    batches = list(DataLoader(table.to_torch(), batch_size=3))

    assert torch.equal(torch.cat([batch for batch, _ in batches]), images)
    assert torch.cat([targets for _, targets in batches]).tolist() == [0, 1, 1, 0]
    assert batches[0][0].is_contiguous()


def test_a_table_of_files_reaches_the_workers_of_a_spawning_loader(tmp_path):
    for name, pixels in zip("abcd", IMAGES, strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    frame = FRAME.assign(path=FRAME["path"] + ".png")
    reader = file_reader(tmp_path, frame["path"].tolist())
    table = ImageTable(frame, ("x", "y", "z"), reader, root=tmp_path).take(np.array([2, 0]))

    again = pickle.loads(pickle.dumps(table.to_torch()))

    assert torch.equal(again[0][0], torch.from_numpy(IMAGES[2]).permute(2, 0, 1))
    assert [label for _, label in again] == [2, 0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(IMAGES[0, :, :, 0]), np.stack([IMAGES[0, :, :, 0]] * 3, axis=2)),
        (IMAGES[0, :, :, 0], np.stack([IMAGES[0, :, :, 0]] * 3, axis=2)),
        (IMAGES[0, :, :, :1], np.stack([IMAGES[0, :, :, 0]] * 3, axis=2)),
        (torch.from_numpy(IMAGES[0, None, :, :, 0]), np.stack([IMAGES[0, :, :, 0]] * 3, axis=2)),
        (IMAGES[0, :3], IMAGES[0, :3]),  # (3, 6, 3): an array has its channels last
        (torch.from_numpy(IMAGES[0, :, :3].transpose(2, 0, 1).copy()), IMAGES[0, :, :3]),
        (Image.fromarray(IMAGES[0]).convert("P"), None),
    ],
)
def test_every_kind_of_image_is_read_as_rgb(image, expected):
    table = ImageTable.from_torch([(image, 0)], ("a", "b"))

    if expected is None:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(table.read(0), expected)


def test_floats_are_refused_not_cut():
    table = ImageTable.from_torch([(torch.rand(3, 4, 4), 0)], ("a", "b"))

    with pytest.raises(BadImage, match="float32"):
        table.to_torch()[0]


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(DataError, match="label 2 of item 1 is outside"):
        ImageTable.from_torch([(IMAGES[0], 0), (IMAGES[0], 2)], ("a", "b"))
