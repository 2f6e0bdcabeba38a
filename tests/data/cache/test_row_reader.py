from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from sightx.data.cache.row_reader import RowReader
from sightx.errors import DataError

SHAPE = (3, 5, 7)


@pytest.fixture
def rows():
    return np.random.default_rng(0).integers(0, 256, (900, *SHAPE), dtype=np.uint8)


@pytest.fixture
def file(rows, tmp_path):
    rows.tofile(tmp_path / "rows.bin")
    return tmp_path / "rows.bin"


def open_rows(file, rows):
    return RowReader(file, SHAPE, np.array([zlib.crc32(row) for row in rows], np.uint32))


@pytest.mark.parametrize(
    "positions",
    [
        np.arange(900),  # more than one call may fill
        np.random.default_rng(1).permutation(900),
        np.array([3, 3, 899, 4, 3, 0]),
        np.array([], int),
    ],
)
def test_rows_come_in_the_order_that_was_asked(file, rows, positions):
    pixels = open_rows(file, rows)

    assert np.array_equal(pixels.read(positions).numpy(), rows[positions])
    assert not pixels.is_in_memory
    assert pixels.shape == SHAPE


def test_rows_are_read_into_the_buffer_that_is_given(file, rows):
    buffer = torch.zeros((8, *SHAPE), dtype=torch.uint8)

    found = open_rows(file, rows).read(np.array([7, 2, 5]), buffer[2:5])

    assert found.data_ptr() == buffer[2].data_ptr()
    assert np.array_equal(buffer[2:5].numpy(), rows[[7, 2, 5]])
    assert not buffer[:2].any()
    assert not buffer[5:].any()


def test_large_batches_are_read_by_several_threads_alike(tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (24, 3, 600, 600), dtype=np.uint8)
    large.tofile(tmp_path / "rows.bin")
    crcs = np.array([zlib.crc32(row) for row in large], np.uint32)
    order = np.random.default_rng(1).permutation(24)

    assert np.array_equal(
        RowReader(tmp_path / "rows.bin", (3, 600, 600), crcs).read(order).numpy(), large[order]
    )


@pytest.mark.parametrize("bit", [0, 105 * 8 - 1])
def test_one_flipped_bit_is_found(file, rows, bit):
    pixels = open_rows(file, rows)
    data = bytearray(file.read_bytes())
    data[105 * 400 + bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)

    assert np.array_equal(pixels.read(np.arange(400)).numpy(), rows[:400])
    with pytest.raises(
        DataError, match=r"rows\.bin: error\[damaged-row\] prepared row 400 "
    ) as one:
        pixels.read(np.array([3, 400]))
    assert "sightx prepare" in str(one.value)
    assert np.flatnonzero(pixels.damaged(np.arange(900))).tolist() == [400]


@pytest.mark.parametrize("length", [0, 105 * 500, 105 * 500 + 104])
def test_a_file_that_was_cut_is_an_error_and_no_crash(file, rows, length):
    pixels = open_rows(file, rows)
    with file.open("r+b") as opened:
        opened.truncate(length)

    assert np.array_equal(pixels.read(np.arange(length // 105)).numpy(), rows[: length // 105])
    with pytest.raises(DataError, match=f"prepared row {length // 105} is damaged"):
        pixels.read(np.arange(900))
    assert pixels.damaged(np.arange(900)).sum() == 900 - length // 105


def test_a_file_that_was_removed_is_still_read(file, rows):
    pixels = open_rows(file, rows)
    file.unlink()

    assert np.array_equal(pixels.read(np.array([8])).numpy(), rows[[8]])
