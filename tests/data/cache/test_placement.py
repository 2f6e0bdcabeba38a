from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from sightx.builtin.preprocess import Resize
from sightx.data.cache.placement import OnTheFlyPixels, place
from sightx.data.cache.row_file import RowFile
from sightx.data.preprocess import Preprocessor, content_hash
from sightx.errors import DataError, ResourceError
from sightx.io import system
from sightx.records.hashes import Hashes
from sightx.records.pixels import InMemoryPixels, PixelRows
from sightx.records.table import ImageTable

SHAPE = (3, 4, 4)
ROWS = np.random.default_rng(0).integers(0, 256, (10, *SHAPE), dtype=np.uint8)
CPU = torch.device("cpu")


@pytest.fixture
def row_file(tmp_path):
    with RowFile.create(tmp_path / "rows", {"shape": SHAPE}).writer() as writer:
        for number, row in enumerate(ROWS):
            writer.append(bytes([number]) * 32, row)
    return RowFile.open(tmp_path / "rows")


@pytest.fixture
def rows(row_file):
    """Five samples that share four rows, of a file of ten."""
    return PixelRows(row_file.reader(), np.array([7, 2, 9, 2, 0]))


def test_each_row_of_a_run_is_loaded_once_in_the_order_of_use(rows):
    loaded, (where, why) = place(rows, "memory", CPU)

    assert (where, why) == (
        "memory",
        f"0.2 kB of {system.format_bytes(system.total_memory() // 2)}",
    )
    assert loaded.is_in_memory
    assert np.array_equal(loaded.pixels.tensor.numpy(), ROWS[[7, 2, 9, 0]])
    assert loaded.index.tolist() == [0, 1, 2, 1, 3]
    assert np.array_equal(loaded.gather(np.array([4, 3])).numpy(), ROWS[[0, 2]])


def test_disk_mode_reads_from_disk(rows):
    found, placement = place(rows, "disk", CPU)

    assert found is rows
    assert str(placement) == "pixels: disk (0.2 kB)"
    assert np.array_equal(found.gather(np.arange(5)).numpy(), ROWS[[7, 2, 9, 2, 0]])


@pytest.mark.parametrize(("memory", "where"), [(2 * 4 * 48, "memory"), (2 * 4 * 48 - 2, "disk")])
def test_auto_takes_memory_where_the_rows_take_less_than_half(rows, monkeypatch, memory, where):
    monkeypatch.setattr(system, "total_memory", lambda: memory)

    found, placement = place(rows, "auto", CPU)

    assert placement.where == where
    assert found.is_in_memory == (where == "memory")
    if where == "disk":
        assert placement.why == "0.2 kB; memory takes 0.2 kB"


def test_a_mode_without_room_is_an_error(rows, monkeypatch):
    monkeypatch.setattr(system, "total_memory", lambda: 300)
    with pytest.raises(ResourceError, match=r"\[no-room\] execution\.cache: pixels need 0\.2 kB"):
        place(rows, "memory", CPU)


def test_the_device_of_a_cpu_is_memory(rows):
    for device in (CPU, None):
        assert place(rows, "device", device)[1].where == "memory"


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["auto", "device"])
def test_a_gpu_that_has_room_holds_them(rows, where):
    loaded, placement = place(rows, where, torch.device("cuda"))

    assert placement.where == "device"
    assert loaded.pixels.tensor.device.type == "cuda"
    assert np.array_equal(loaded.gather(np.arange(5)).cpu().numpy(), ROWS[[7, 2, 9, 2, 0]])


def test_rows_are_verified_when_they_are_loaded(rows, row_file):
    with (row_file.folder / "rows.bin").open("r+b") as file:
        file.seek(48 * 9)
        file.write(b"\0\1\2")
    with pytest.raises(DataError, match=r"\[damaged-row\] preprocessed row 9"):
        place(rows, "auto", CPU)


def test_pixels_in_memory_stay_there():
    rows = PixelRows(InMemoryPixels(torch.from_numpy(ROWS)), np.arange(3))

    assert place(rows, "disk", CPU)[0] is rows


# On the fly


class Images:
    """Read images that may change."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(20)]
        paths = [f"{number}.png" for number in range(20)]
        frame = pd.DataFrame({"path": paths, "label": 0, "group": "", "line": range(2, 22)})
        self.table = ImageTable(frame, ("a",), self, source="l.csv")

    def __call__(self, index):
        if self.images[index] is None:
            raise FileNotFoundError
        return self.images[index]


@pytest.fixture
def images():
    return Images()


@pytest.fixture
def on_the_fly(images):
    hashes = Hashes.from_bytes(map(content_hash, images.images))
    return OnTheFlyPixels(
        Preprocessor(images.table, (Resize(size=4),)), hashes, SHAPE, 3, "the disk is full"
    )


def test_images_are_decoded_for_each_batch(images, on_the_fly):
    positions = np.array([19, 3, 3, 0])

    found = on_the_fly.read(positions)

    made = [Resize(size=4).apply(torch.from_numpy(images(i)).permute(2, 0, 1)) for i in positions]
    assert torch.equal(found, torch.stack(made))
    assert found.is_contiguous()
    buffer = torch.zeros((4, *SHAPE), dtype=torch.uint8)
    assert on_the_fly.read(positions, buffer).data_ptr() == buffer.data_ptr()
    assert torch.equal(buffer, found)
    assert not on_the_fly.is_in_memory


def test_an_image_that_has_changed_is_named(images, on_the_fly):
    images.images[7] = images.images[7] // 2
    images.images[9] = None

    with pytest.raises(DataError, match=r"l\.csv:9: error\[image-changed\] 7\.png has changed"):
        on_the_fly.read(np.arange(9))
    with pytest.raises(DataError, match=r"9\.png cannot be read any more \(missing\)"):
        on_the_fly.read(np.array([9]))


def test_pixels_that_are_decoded_on_the_fly_stay_so(on_the_fly):
    rows, placement = place(PixelRows(on_the_fly, np.arange(20)), "auto", CPU)

    assert rows.pixels is on_the_fly
    assert str(placement) == "pixels: off (the disk is full)"
