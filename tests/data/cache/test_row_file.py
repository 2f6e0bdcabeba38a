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

from sightx.data.cache.row_file import RowFile
from sightx.errors import DataError, ResourceError
from sightx.records.hashes import Hashes

ABOUT = {"shape": [3, 2, 4], "of": "nothing"}
ROWS = np.random.default_rng(0).integers(0, 256, (50, 3, 2, 4), dtype=np.uint8)
CONTENTS = [hashlib.sha256(bytes([number])).digest() for number in range(50)]


def filled(folder, count=50):
    with RowFile.create(folder, ABOUT).filling() as filling:
        for content, row in zip(CONTENTS[:count], ROWS[:count], strict=True):
            filling.append(content, row)
    return RowFile.open(folder)


def read(shelf, numbers):
    found = shelf.rows(Hashes.from_bytes(CONTENTS[number] for number in numbers))
    return shelf.pixels().read(found).numpy()


def test_what_is_appended_is_found_by_its_content(tmp_path):
    shelf = filled(tmp_path / "shelf")

    assert (len(shelf), shelf.shape, shelf.size, shelf.about["of"]) == (
        50,
        (3, 2, 4),
        24,
        "nothing",
    )
    assert list(shelf.digests) == [content.hex() for content in CONTENTS]
    numbers = np.random.default_rng(1).permutation(50)
    assert np.array_equal(read(shelf, numbers), ROWS[numbers])
    other = Hashes.from_bytes([hashlib.sha256(b"other").digest(), bytes(32), CONTENTS[3]])
    assert shelf.rows(other).tolist() == [-1, -1, 3]


def test_files_are_as_the_module_says(tmp_path):
    filled(tmp_path / "shelf")

    assert (tmp_path / "shelf" / "rows.bin").read_bytes() == ROWS.tobytes()
    records = b"".join(
        content + zlib.crc32(row.tobytes()).to_bytes(4, "little")
        for content, row in zip(CONTENTS, ROWS, strict=True)
    )
    assert (tmp_path / "shelf" / "index.bin").read_bytes() == records
    assert json.loads((tmp_path / "shelf" / "about.json").read_text()) == {"format": 1, **ABOUT}


def test_an_empty_shelf_holds_nothing(tmp_path):
    shelf = RowFile.create(tmp_path / "shelf", ABOUT)

    assert shelf.rows(Hashes.from_bytes(CONTENTS)).tolist() == [-1] * 50
    assert shelf.pixels().read(np.zeros(0, int)).shape == (0, 3, 2, 4)


def test_of_two_rows_of_one_content_the_later_counts(tmp_path):
    shelf = filled(tmp_path / "shelf")
    with shelf.filling() as filling:
        filling.append(CONTENTS[7], torch.from_numpy(ROWS[8]))

    again = RowFile.open(shelf.folder)

    assert again.rows(Hashes.from_bytes([CONTENTS[7]])).tolist() == [50]
    assert np.array_equal(read(again, [7, 6]), ROWS[[8, 6]])


def test_rows_of_any_memory_layout_are_kept(tmp_path):
    shelf = RowFile.create(tmp_path / "shelf", ABOUT)
    lying = torch.from_numpy(np.ascontiguousarray(ROWS[0].transpose(1, 2, 0))).permute(2, 0, 1)
    with shelf.filling() as filling:
        filling.append(CONTENTS[0], lying)

    assert np.array_equal(read(RowFile.open(shelf.folder), [0]), ROWS[:1])


@pytest.mark.parametrize("index", [0, 35, 36, 36 * 20, 36 * 20 + 17, 36 * 50])
@pytest.mark.parametrize("rows", [0, 23, 24 * 30, 24 * 30 + 1, 24 * 50])
def test_whatever_a_crash_leaves_begins_with_a_valid_shelf(tmp_path, index, rows):
    folder = filled(tmp_path / "shelf").folder
    os.truncate(folder / "index.bin", index)
    os.truncate(folder / "rows.bin", rows)

    shelf, whole = RowFile.open(folder), min(index // 36, rows // 24)

    assert len(shelf) == whole
    assert np.array_equal(read(shelf, range(whole)), ROWS[:whole])
    with shelf.filling() as filling:
        for content, row in zip(CONTENTS[whole:], ROWS[whole:], strict=True):
            filling.append(content, row)
    assert (folder / "rows.bin").read_bytes() == ROWS.tobytes()
    assert np.array_equal(read(RowFile.open(folder), range(50)), ROWS)


def test_rows_that_no_record_names_are_no_rows(tmp_path):
    folder = filled(tmp_path / "shelf").folder
    with (folder / "rows.bin").open("ab") as file:
        file.write(bytes(24 * 5))
    with (folder / "index.bin").open("ab") as file:
        file.write(bytes(36 * 3))  # a file system may leave zeros where it lost power

    shelf = RowFile.open(folder)

    assert shelf.rows(Hashes.unknown(1)).tolist() == [-1]
    assert np.array_equal(read(shelf, range(50)), ROWS)


def test_rows_before_an_interrupt_stay(tmp_path):
    shelf = RowFile.create(tmp_path / "shelf", ABOUT)

    def fill():
        with shelf.filling() as filling:
            filling.append(CONTENTS[0], ROWS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert np.array_equal(read(RowFile.open(shelf.folder), [0]), ROWS[:1])


def test_rows_that_were_committed_outlive_kill_9(tmp_path):
    code = f"""
import os, signal, hashlib, numpy as np
from pathlib import Path
from sightx.data.cache.row_file import RowFile
with RowFile.create(Path({str(tmp_path / "shelf")!r}), {ABOUT!r}).filling() as filling:
    for number in range(40):
        filling.append(hashlib.sha256(bytes([number])).digest(), np.full((3, 2, 4), number, "u1"))
        if number == 29:
            filling.commit()
            filling.wait()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "shelf" / "rows.bin").stat().st_size == 40 * 24
    found = read(RowFile.open(tmp_path / "shelf"), range(30))
    assert (found == np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1)).all()
    assert len(RowFile.open(tmp_path / "shelf")) == 30


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


def test_a_disk_that_is_full_keeps_what_it_has(tmp_path):
    shelf = RowFile.create(tmp_path / "shelf", ABOUT)

    def fill():
        with shelf.filling() as filling:
            for content, row in zip(CONTENTS, ROWS, strict=True):
                filling.append(content, row)

    refused = pytest.raises(ResourceError, match=r"\[disk-full\].*free; let SIGHTX_CACHE")
    with refused, small_files():
        fill()

    kept = RowFile.open(shelf.folder)
    assert len(kept) == 1000 // 36  # the index is full before the rows are
    assert np.array_equal(read(kept, range(len(kept))), ROWS[: len(kept)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "about.json is damaged"),
        (b'{"format": 1}', "about.json is damaged"),
        (b'{"format": 2, "shape": [3, 2, 4]}', "its format is 2, and 1 is known here"),
        (None, "No such file"),
    ],
)
def test_what_is_no_shelf_is_named(tmp_path, content, reason):
    shelf = filled(tmp_path / "shelf")
    (shelf.folder / "about.json").unlink()
    if content is not None:
        (shelf.folder / "about.json").write_bytes(content)

    with pytest.raises(DataError, match=rf"shelf: error\[bad-cache\].*{reason}"):
        RowFile.open(shelf.folder)


def test_a_folder_that_is_there_is_no_new_shelf(tmp_path):
    with pytest.raises(FileExistsError):
        RowFile.create(tmp_path, ABOUT)
