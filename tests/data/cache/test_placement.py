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
def shelf(tmp_path):
    with RowFile.create(tmp_path / "shelf", {"shape": SHAPE}).filling() as filling:
        for number, row in enumerate(ROWS):
            filling.append(bytes([number]) * 32, row)
    return RowFile.open(tmp_path / "shelf")


@pytest.fixture
def rows(shelf):
    """Five samples of four rows, of a shelf of ten."""
    return PixelRows(shelf.pixels(), np.array([7, 2, 9, 2, 0]))


def test_memory_holds_each_row_of_the_run_once_in_its_order(rows):
    held, (where, why) = place(rows, "memory", CPU)

    assert (where, why) == (
        "memory",
        f"0.2 kB of {system.format_bytes(system.total_memory() // 2)}",
    )
    assert held.is_in_memory
    assert np.array_equal(held.pixels.tensor.numpy(), ROWS[[7, 2, 9, 0]])
    assert held.index.tolist() == [0, 1, 2, 1, 3]
    assert np.array_equal(held.gather(np.array([4, 3])).numpy(), ROWS[[0, 2]])


def test_disk_stays_disk(rows):
    found, residence = place(rows, "disk", CPU)

    assert found is rows
    assert str(residence) == "pixels: disk (0.2 kB)"
    assert np.array_equal(found.gather(np.arange(5)).numpy(), ROWS[[7, 2, 9, 2, 0]])


@pytest.mark.parametrize(("memory", "where"), [(2 * 4 * 48, "memory"), (2 * 4 * 48 - 2, "disk")])
def test_auto_takes_memory_where_the_rows_take_less_than_half(rows, monkeypatch, memory, where):
    monkeypatch.setattr(system, "total_memory", lambda: memory)

    found, residence = place(rows, "auto", CPU)

    assert residence.where == where
    assert found.is_in_memory == (where == "memory")
    if where == "disk":
        assert residence.why == "0.2 kB; memory takes 0.2 kB"


def test_memory_that_is_too_small_and_wanted_is_an_error(rows, monkeypatch):
    monkeypatch.setattr(system, "total_memory", lambda: 300)
    with pytest.raises(ResourceError, match=r"\[no-room\] execution\.cache: pixels need 0\.2 kB"):
        place(rows, "memory", CPU)


def test_the_memory_of_the_cpu_is_memory(rows):
    for device in (CPU, None):
        assert place(rows, "device", device)[1].where == "memory"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("where", ["auto", "device"])
def test_a_gpu_that_has_room_holds_them(rows, where):
    held, residence = place(rows, where, torch.device("cuda"))

    assert residence.where == "device"
    assert held.pixels.tensor.device.type == "cuda"
    assert np.array_equal(held.gather(np.arange(5)).cpu().numpy(), ROWS[[7, 2, 9, 2, 0]])


def test_rows_are_verified_when_they_are_loaded(rows, shelf):
    with (shelf.folder / "rows.bin").open("r+b") as file:
        file.seek(48 * 9)
        file.write(b"\0\1\2")
    with pytest.raises(DataError, match=r"\[damaged-row\] prepared row 9"):
        place(rows, "auto", CPU)


def test_what_is_in_memory_stays_there():
    rows = PixelRows(InMemoryPixels(torch.from_numpy(ROWS)), np.arange(3))

    assert place(rows, "disk", CPU)[0] is rows


# Live


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
def live(images):
    digests = Hashes.from_bytes(map(content_hash, images.images))
    return OnTheFlyPixels(
        Preprocessor(images.table, (Resize(size=4),)), digests, SHAPE, 3, "the disk is full"
    )


def test_live_pixels_are_made_for_each_batch(images, live):
    positions = np.array([19, 3, 3, 0])

    found = live.read(positions)

    made = [Resize(size=4).apply(torch.from_numpy(images(i)).permute(2, 0, 1)) for i in positions]
    assert torch.equal(found, torch.stack(made))
    assert found.is_contiguous()
    buffer = torch.zeros((4, *SHAPE), dtype=torch.uint8)
    assert live.read(positions, buffer).data_ptr() == buffer.data_ptr()
    assert torch.equal(buffer, found)
    assert not live.is_in_memory


def test_an_image_that_has_changed_since_is_named(images, live):
    images.images[7] = images.images[7] // 2
    images.images[9] = None

    with pytest.raises(DataError, match=r"l\.csv:9: error\[image-changed\] 7\.png has changed"):
        live.read(np.arange(9))
    with pytest.raises(DataError, match=r"9\.png cannot be read any more \(missing\)"):
        live.read(np.array([9]))


def test_live_pixels_are_off(live):
    rows, residence = place(PixelRows(live, np.arange(20)), "auto", CPU)

    assert rows.pixels is live
    assert str(residence) == "pixels: off (the disk is full)"
