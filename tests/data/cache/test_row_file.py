from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from sightx.data.cache.row_file import RowFile, RowReader
from sightx.errors import DataError, ResourceError
from sightx.records.hashes import Hashes

ABOUT = {"shape": [3, 2, 4], "of": "nothing"}
ROWS = np.random.default_rng(0).integers(0, 256, (50, 3, 2, 4), dtype=np.uint8)
CONTENTS = [hashlib.sha256(bytes([number])).digest() for number in range(50)]


def filled(folder, count=50):
    with RowFile.create(folder, ABOUT).writer() as writer:
        for content, row in zip(CONTENTS[:count], ROWS[:count], strict=True):
            writer.append(content, row)
    return RowFile.open(folder)


def read(row_file, numbers):
    found = row_file.find(Hashes.from_bytes(CONTENTS[number] for number in numbers))
    return row_file.reader().read(found).numpy()


def test_appended_rows_are_found_by_their_content(tmp_path):
    row_file = filled(tmp_path / "rows")

    assert (len(row_file), row_file.shape, row_file.row_bytes, row_file.about["of"]) == (
        50,
        (3, 2, 4),
        24,
        "nothing",
    )
    assert list(row_file.hashes) == [content.hex() for content in CONTENTS]
    numbers = np.random.default_rng(1).permutation(50)
    assert np.array_equal(read(row_file, numbers), ROWS[numbers])
    other = Hashes.from_bytes([hashlib.sha256(b"other").digest(), bytes(32), CONTENTS[3]])
    assert row_file.find(other).tolist() == [-1, -1, 3]


def test_files_have_the_documented_format(tmp_path):
    filled(tmp_path / "rows")

    assert (tmp_path / "rows" / "rows.bin").read_bytes() == ROWS.tobytes()
    records = b"".join(
        content + zlib.crc32(row.tobytes()).to_bytes(4, "little")
        for content, row in zip(CONTENTS, ROWS, strict=True)
    )
    assert (tmp_path / "rows" / "index.bin").read_bytes() == records
    assert json.loads((tmp_path / "rows" / "about.json").read_text()) == {"format": 1, **ABOUT}


def test_a_new_file_has_no_rows(tmp_path):
    row_file = RowFile.create(tmp_path / "rows", ABOUT)

    assert row_file.find(Hashes.from_bytes(CONTENTS)).tolist() == [-1] * 50
    assert row_file.reader().read(np.zeros(0, int)).shape == (0, 3, 2, 4)


def test_of_two_rows_of_one_content_the_later_counts(tmp_path):
    row_file = filled(tmp_path / "rows")
    with row_file.writer() as writer:
        writer.append(CONTENTS[7], torch.from_numpy(ROWS[8]))

    again = RowFile.open(row_file.folder)

    assert again.find(Hashes.from_bytes([CONTENTS[7]])).tolist() == [50]
    assert np.array_equal(read(again, [7, 6]), ROWS[[8, 6]])


def test_rows_of_any_memory_layout_are_kept(tmp_path):
    row_file = RowFile.create(tmp_path / "rows", ABOUT)
    lying = torch.from_numpy(np.ascontiguousarray(ROWS[0].transpose(1, 2, 0))).permute(2, 0, 1)
    with row_file.writer() as writer:
        writer.append(CONTENTS[0], lying)

    assert np.array_equal(read(RowFile.open(row_file.folder), [0]), ROWS[:1])


@pytest.mark.parametrize("index", [0, 35, 36, 36 * 20, 36 * 20 + 17, 36 * 50])
@pytest.mark.parametrize("rows", [0, 23, 24 * 30, 24 * 30 + 1, 24 * 50])
def test_after_a_crash_the_complete_rows_are_valid(tmp_path, index, rows):
    folder = filled(tmp_path / "rows").folder
    os.truncate(folder / "index.bin", index)
    os.truncate(folder / "rows.bin", rows)

    row_file, whole = RowFile.open(folder), min(index // 36, rows // 24)

    assert len(row_file) == whole
    assert np.array_equal(read(row_file, range(whole)), ROWS[:whole])
    with row_file.writer() as writer:
        for content, row in zip(CONTENTS[whole:], ROWS[whole:], strict=True):
            writer.append(content, row)
    assert (folder / "rows.bin").read_bytes() == ROWS.tobytes()
    assert np.array_equal(read(RowFile.open(folder), range(50)), ROWS)


def test_rows_without_a_record_do_not_count(tmp_path):
    folder = filled(tmp_path / "rows").folder
    with (folder / "rows.bin").open("ab") as file:
        file.write(bytes(24 * 5))
    with (folder / "index.bin").open("ab") as file:
        file.write(bytes(36 * 3))  # a file system may leave zeros where it lost power

    row_file = RowFile.open(folder)

    assert row_file.find(Hashes.unknown(1)).tolist() == [-1]
    assert np.array_equal(read(row_file, range(50)), ROWS)


def test_rows_before_an_interrupt_stay(tmp_path):
    row_file = RowFile.create(tmp_path / "rows", ABOUT)

    def fill():
        with row_file.writer() as writer:
            writer.append(CONTENTS[0], ROWS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert np.array_equal(read(RowFile.open(row_file.folder), [0]), ROWS[:1])


def test_rows_that_were_committed_outlive_kill_9(tmp_path):
    code = f"""
import os, signal, hashlib, numpy as np
from pathlib import Path
from sightx.data.cache.row_file import RowFile
with RowFile.create(Path({str(tmp_path / "rows")!r}), {ABOUT!r}).writer() as writer:
    for number in range(40):
        writer.append(hashlib.sha256(bytes([number])).digest(), np.full((3, 2, 4), number, "u1"))
        if number == 29:
            writer.commit()
            writer.wait()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "rows" / "rows.bin").stat().st_size == 40 * 24
    found = read(RowFile.open(tmp_path / "rows"), range(30))
    assert (found == np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1)).all()
    assert len(RowFile.open(tmp_path / "rows")) == 30


@contextmanager
def small_files():
    """Let no file grow beyond 1,000 bytes, as a full disk would; pytest's own output is a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    deaf = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, deaf)


def test_a_disk_that_refuses_keeps_the_rows_before(tmp_path):
    row_file = RowFile.create(tmp_path / "rows", ABOUT)

    def fill():
        with row_file.writer() as writer:
            for content, row in zip(CONTENTS, ROWS, strict=True):
                writer.append(content, row)

    refused = pytest.raises(ResourceError, match=r"\[no-cache\].*File too large; let SIGHTX_CACHE")
    with refused, small_files():
        fill()

    kept = RowFile.open(row_file.folder)
    assert len(kept) == 1000 // 36  # the index is full before the rows are
    assert np.array_equal(read(kept, range(len(kept))), ROWS[: len(kept)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "about.json is damaged"),
        (b'{"format": 1}', "about.json is damaged"),
        (b'{"format": 2, "shape": [3, 2, 4]}', "its format is 2, and this SightX knows 1"),
        (None, "No such file"),
    ],
)
def test_a_folder_that_is_not_a_row_file_is_named(tmp_path, content, reason):
    row_file = filled(tmp_path / "rows")
    (row_file.folder / "about.json").unlink()
    if content is not None:
        (row_file.folder / "about.json").write_bytes(content)

    with pytest.raises(DataError, match=rf"rows: error\[bad-cache\].*{reason}"):
        RowFile.open(row_file.folder)


def test_an_existing_folder_is_refused(tmp_path):
    with pytest.raises(ResourceError, match=r"\[no-cache\].*File exists"):
        RowFile.create(tmp_path, ABOUT)


# Reading


READER_SHAPE = (3, 5, 7)


@pytest.fixture
def rows():
    return np.random.default_rng(0).integers(0, 256, (900, *READER_SHAPE), dtype=np.uint8)


@pytest.fixture
def file(rows, tmp_path):
    rows.tofile(tmp_path / "rows.bin")
    return tmp_path / "rows.bin"


def open_rows(file, rows):
    return RowReader(file, READER_SHAPE, np.array([zlib.crc32(row) for row in rows], np.uint32))


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
    assert pixels.shape == READER_SHAPE


def test_rows_are_read_into_the_buffer_that_is_given(file, rows):
    buffer = torch.zeros((8, *READER_SHAPE), dtype=torch.uint8)

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
        DataError, match=r"rows\.bin: error\[damaged-row\] preprocessed row 400 "
    ) as one:
        pixels.read(np.array([3, 400]))
    assert "sightx prepare" in str(one.value)
    assert np.flatnonzero(pixels.find_damaged(np.arange(900))).tolist() == [400]


@pytest.mark.parametrize("length", [0, 105 * 500, 105 * 500 + 104])
def test_a_truncated_file_is_an_error_and_not_a_crash(file, rows, length):
    pixels = open_rows(file, rows)
    with file.open("r+b") as opened:
        opened.truncate(length)

    assert np.array_equal(pixels.read(np.arange(length // 105)).numpy(), rows[: length // 105])
    with pytest.raises(DataError, match=f"preprocessed row {length // 105} is damaged"):
        pixels.read(np.arange(900))
    assert pixels.find_damaged(np.arange(900)).sum() == 900 - length // 105


def test_a_file_that_was_removed_is_still_read(file, rows):
    pixels = open_rows(file, rows)
    file.unlink()

    assert np.array_equal(pixels.read(np.array([8])).numpy(), rows[[8]])
