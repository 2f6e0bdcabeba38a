from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FakeData

from sightx.data.decode.decoder import BadImage
from sightx.errors import DataError
from sightx.plugin import ImageTable, as_torch_dataset, file_reader, table_from_torch

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


def test_a_dataset_of_pil_images_makes_a_table():
    dataset = FakeData(size=5, image_size=(3, 4, 7), num_classes=3)

    table = table_from_torch(dataset, ("a", "b", "c"))

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
    table = table_from_torch(OneHandle(), ("a", "b"))
    table = pickle.loads(pickle.dumps(table))
    wanted = [0, 1, 2, 3] * 10

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(table.read, wanted))

    assert all(np.array_equal(image, IMAGES[n]) for image, n in zip(found, wanted, strict=True))


def test_a_dataset_of_tensors_goes_round_through_a_data_loader():
    images, labels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2), torch.tensor([0, 1, 1, 0])

    table = table_from_torch(TensorDataset(images, labels), ("a", "b"))
    batches = list(DataLoader(as_torch_dataset(table), batch_size=3))

    assert torch.equal(torch.cat([batch for batch, _ in batches]), images)
    assert torch.cat([targets for _, targets in batches]).tolist() == [0, 1, 1, 0]
    assert batches[0][0].is_contiguous()


def test_a_table_of_files_reaches_the_workers_of_a_spawning_loader(tmp_path):
    for name, pixels in zip("abcd", IMAGES, strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paths = [f"{name}.png" for name in "abcd"]
    frame = pd.DataFrame({"path": paths, "label": [0, 2, 2, 0], "group": ""})
    reader = file_reader(tmp_path, paths)
    table = ImageTable(frame, ("x", "y", "z"), reader, root=tmp_path).take(np.array([2, 0]))

    again = pickle.loads(pickle.dumps(as_torch_dataset(table)))

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
    table = table_from_torch([(image, 0)], ("a", "b"))

    if expected is None:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(table.read(0), expected)


def test_floats_are_refused_not_cut():
    table = table_from_torch([(torch.rand(3, 4, 4), 0)], ("a", "b"))

    with pytest.raises(BadImage, match="float32"):
        as_torch_dataset(table)[0]


def test_a_label_that_is_not_a_class_is_refused():
    with pytest.raises(DataError, match="label 2 of item 1 is outside"):
        table_from_torch([(IMAGES[0], 0), (IMAGES[0], 2)], ("a", "b"))


class Dictionaries:
    """Items as Hugging Face's datasets have them; `read` lists which were read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        self.read.append(index)
        return {"image": Image.fromarray(IMAGES[index]), "label": "cat" if index % 2 else "dog"}


def test_items_may_be_dictionaries_with_names_of_classes():
    dataset = Dictionaries()
    table = table_from_torch(dataset, ("dog", "cat"), image="image", label="label")

    assert table.labels.tolist() == [0, 1, 0, 1]
    assert all(np.array_equal(table.read(index), IMAGES[index]) for index in range(4))
    reread = pickle.loads(pickle.dumps(table)).read(3)
    assert np.array_equal(reread, IMAGES[3])


def test_given_labels_and_groups_are_taken_without_reading_an_item():
    dataset = Dictionaries()
    given = [torch.tensor(1), np.int64(0), 0, "cat"]
    table = table_from_torch(
        dataset, ("dog", "cat"), image="image", labels=given, groups=["a", "a", 7, ""]
    )

    assert dataset.read == []
    assert table.labels.tolist() == [1, 0, 0, 1]
    assert table.frame["group"].tolist() == ["a", "a", "7", ""]
    assert len(set(table.groups)) == 3


@pytest.mark.parametrize(
    ("items", "arguments", "message"),
    [
        (Dictionaries(), {}, "item 0 has no key 1, but 'image', 'label'; give the key with "
         "label='label'"),
        (Dictionaries(), {"label": "lable"}, "give the key with label='label'"),
        ([IMAGES[0]], {"label": "label"}, "item 0 is a ndarray, which has no 'label'"),
        ([(IMAGES[0],)], {}, "item 0 is a tuple, which has no 1; give its position"),
        ([(0, 0.5)], {}, "label 0.5 of item 0 is not a whole number"),
        ([(0, "cats")], {}, "label 'cats' of item 0 is not a class; did you mean 'cat'?"),
        ([(0, 1)] * 3, {"labels": [0, 1]}, "2 labels are given for 3 items"),
        ([(0, 1)] * 3, {"groups": ["a"]}, "1 groups are given for 3 items"),
    ],
)  # fmt: skip
def test_an_item_that_does_not_fit_is_named_with_the_way_out(items, arguments, message):
    with pytest.raises(DataError) as caught:
        table_from_torch(items, ("cat", "dog"), **arguments)
    assert message in str(caught.value)


def test_a_wrong_key_of_the_image_is_named_when_it_is_read():
    table = table_from_torch(Dictionaries(), ("cat", "dog"), label="label", image="picture")
    with pytest.raises(DataError, match=r"item 2 has no key 'picture'.*image='image'"):
        table.read(2)
