from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sightx.builtin.preprocess import Resize
from sightx.data.dataset import CacheConfig, PreprocessJob, load_or_build
from sightx.data.preprocess import preprocess_image
from sightx.errors import ResourceError
from sightx.io import locks
from sightx.io.files import file_reader
from sightx.records.table import ImageTable

CHAIN = (Resize(size=(6, 5)),)
SIZE = 3 * 6 * 5
HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path):
    """Thirty photographs, old enough to be remembered by their state."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "images" / f"{number:02}.png"
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(path)
        os.utime(path, ns=(10**18, 10**18 + number))
    time.sleep(0.1)  # the time of change, which cannot be set, must be old enough too
    return tmp_path / "images"


class Paths(list):
    """Name files, and remember which were asked for by their positions."""

    def __getitem__(self, index):
        self.seen.append(index)
        return super().__getitem__(index)


class Reader:
    """Read files, and remember which."""

    def __init__(self, folder):
        paths = Paths(sorted(path.name for path in folder.iterdir()))
        frame = pd.DataFrame({"path": list(paths), "label": 0, "group": ""})
        self.seen, self.read = [], file_reader(folder, paths)
        self.table, paths.seen = ImageTable(frame, ("a",), self.read, root=folder), self.seen

    def __call__(self, index):
        return self.read(index)


def build(folder, chain=CHAIN, threads=0, **options):
    reader = Reader(folder)
    config = CacheConfig("disk", threads=threads)
    return load_or_build(PreprocessJob(reader.table, chain), config, **options), reader


def expected(folder):
    reader = Reader(folder)
    return torch.stack(
        [preprocess_image(reader(index), CHAIN) for index in range(len(reader.table))]
    )


def all_rows(prepared):
    return prepared.rows.gather(np.arange(len(prepared.rows)))


def row_folder(cache_root):
    (folder,) = (cache_root / "pixels").iterdir()
    return folder


def test_cached_images_are_neither_read_nor_built_again(folder, cache_root):
    first, _ = build(folder)
    again, reader = build(folder)

    assert (first.built, again.built, reader.seen) == (30, 0, [])
    assert torch.equal(all_rows(first), expected(folder))
    assert torch.equal(all_rows(again), expected(folder))
    assert list(first.hashes) == list(again.hashes)


def test_any_number_of_threads_writes_the_same_files(folder, tmp_path, monkeypatch):
    (folder / "07.png").write_bytes(b"no image")
    (folder / "09.png").write_bytes((folder / "21.png").read_bytes())
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setenv("SIGHTX_CACHE", str(tmp_path / str(threads)))
        prepared, _ = build(folder, threads=threads)
        rows = row_folder(tmp_path / str(threads))
        contents = [(rows / name).read_bytes() for name in ("rows.bin", "index.bin")]
        found.append((rows.name, contents, list(prepared.hashes), prepared.bad))

    assert found[0] == found[1] == found[2]
    assert len(found[0][1][0]) == 28 * SIZE


def test_one_changed_image_costs_one_row(folder, cache_root):
    build(folder)
    new = np.full((9, 8, 3), 77, np.uint8)
    Image.fromarray(new).save(folder / "11.png")

    prepared, reader = build(folder)

    assert (reader.seen, prepared.built) == ([11], 1)
    assert torch.equal(all_rows(prepared), expected(folder))
    assert (row_folder(cache_root) / "rows.bin").stat().st_size == 31 * SIZE


class Drawn:
    """Read as a dataset with its own setting does."""

    def __init__(self, level):
        self.level = level

    def __call__(self, index):
        return np.full((9, 8, 3), self.level, np.uint8)


def test_a_reader_that_does_more_than_read_files_is_called_each_time(folder, cache_root):
    """An unchanged file does not mean an unchanged image then."""
    paths = sorted(path.name for path in folder.iterdir())
    frame = pd.DataFrame({"path": paths, "label": 0, "group": ""})
    for level in (10, 20, 10):
        table = ImageTable(frame, ("a",), Drawn(level), root=folder).take(np.arange(30)[::-1])
        prepared = load_or_build(PreprocessJob(table, CHAIN), CacheConfig("disk"))
        assert all_rows(prepared).unique().tolist() == [level]


def test_a_moved_or_touched_file_needs_no_new_row(folder, cache_root):
    build(folder)
    (folder / "03.png").rename(folder / "99.png")
    os.utime(folder / "05.png", ns=(10**18, 10**18))

    prepared, reader = build(folder)

    assert sorted(reader.table.frame["path"][reader.seen]) == ["05.png", "99.png"]
    assert prepared.built == 0
    assert torch.equal(all_rows(prepared), expected(folder))


def test_images_of_one_content_share_a_row(folder, cache_root):
    for name in ("02.png", "17.png", "29.png"):
        (folder / name).write_bytes((folder / "20.png").read_bytes())

    prepared, _ = build(folder, threads=3)

    assert prepared.built == 27
    assert len(set(prepared.rows.index[[2, 17, 20, 29]])) == 1
    assert torch.equal(all_rows(prepared), expected(folder))


def test_another_chain_has_its_own_rows(folder, cache_root):
    build(folder)
    prepared, _ = build(folder, chain=(Resize(size=4),))

    assert prepared.rows.shape == (3, 4, 4)
    assert prepared.built == 30
    assert len(list((cache_root / "pixels").iterdir())) == 2


def test_bad_images_have_no_row_and_are_tried_again(folder, cache_root):
    (folder / "04.png").write_bytes(b"")
    first, _ = build(folder)
    again, reader = build(folder)

    assert first.bad == again.bad == {4: "empty file"}
    assert first.rows.index[4] == again.rows.index[4] == -1
    assert reader.seen == [4]


# Damage


def test_damaged_rows_are_built_again_when_rows_are_verified(folder, cache_root):
    build(folder)
    file = row_folder(cache_root) / "rows.bin"
    data = bytearray(file.read_bytes())
    for number in (0, 12, 29):
        data[number * SIZE + 8] ^= 4
    file.write_bytes(data)

    prepared, reader = build(folder, verify=True)
    again, _ = build(folder, verify=True)

    assert (sorted(reader.seen), prepared.built, prepared.damaged) == ([0, 12, 29], 3, 3)
    assert torch.equal(all_rows(prepared), expected(folder))
    assert (again.built, again.damaged) == (0, 0)


@pytest.mark.parametrize(
    ("name", "size"), [("rows.bin", 11 * SIZE + 7), ("index.bin", 11 * 36 + 7)]
)
def test_truncated_files_are_repaired(folder, cache_root, name, size):
    build(folder)
    os.truncate(row_folder(cache_root) / name, size)

    prepared, reader = build(folder)

    assert (sorted(reader.seen), prepared.built) == (list(range(11, 30)), 19)
    assert torch.equal(all_rows(prepared), expected(folder))
    assert (row_folder(cache_root) / "rows.bin").stat().st_size == 30 * SIZE


# Several processes, one of which is killed


SLOWLY = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import sightx.data.cache.row_file
sightx.data.cache.row_file._COMMIT_SECONDS = 0.05
from test_build import build
def progress(done, of):
    print(done, flush=True)
    time.sleep({pause})
prepared, reader = build(Path({folder!r}), threads=1, progress=progress)
print("built", prepared.built, flush=True)
"""


def building(folder, pause=0.05):
    code = SLOWLY.format(tests=str(HERE), folder=str(folder), pause=pause)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_build_continues_where_it_was(folder, cache_root):
    with building(folder) as other:
        while other.stdout.readline() != "15\n":
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert other.stderr.read() == ""

    prepared, reader = build(folder)

    assert 0 < prepared.built < 30
    assert len(set(prepared.rows.index)) == 30
    assert torch.equal(all_rows(prepared), expected(folder))
    assert len(reader.seen) >= prepared.built


def test_one_process_builds_and_the_other_waits(folder, cache_root, caplog):
    with building(folder) as other:
        other.stdout.readline()
        with caplog.at_level("INFO", "sightx"):
            prepared, reader = build(folder)
        assert other.stdout.read().endswith("built 30\n")
        assert other.stderr.read() == ""

    assert (prepared.built, reader.seen) == (0, [])
    assert torch.equal(all_rows(prepared), expected(folder))
    (line,) = caplog.messages
    assert line.startswith(f"waiting for pid {other.pid} on host ")
    assert line.endswith(", which builds the cache")


def test_waiting_can_be_interrupted(folder, cache_root):
    build(folder)
    os.truncate(row_folder(cache_root) / "rows.bin", 0)
    held = locks.exclusive_lock(row_folder(cache_root) / "builder.json", create=True)

    def progress(done, of):
        assert (done, of) == (0, 30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder, progress=progress)
    held.release()


def test_an_interrupt_keeps_finished_rows(folder, cache_root):
    def progress(done, of):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder, progress=progress)
    prepared, reader = build(folder)

    assert prepared.built == 20
    assert sorted(reader.seen) == list(range(10, 30))


# Disks that refuse


def test_a_disk_without_room_is_an_error_before_anything_is_written(
    folder, cache_root, monkeypatch
):
    monkeypatch.setattr("sightx.io.system.free_space", lambda folder: 29 * SIZE)

    with pytest.raises(ResourceError, match=r"\[disk-full\] .*need 2\.7 kB, .* has 2\.6 kB free"):
        build(folder)
    assert (row_folder(cache_root) / "rows.bin").stat().st_size == 0


def test_images_that_may_have_rows_need_no_space(folder, cache_root, monkeypatch):
    build(folder)
    for file in (cache_root / "files").iterdir():
        file.unlink()
    monkeypatch.setattr("sightx.io.system.free_space", lambda folder: 0)

    assert build(folder)[0].built == 0


READ_ONLY = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import numpy as np
from test_build import build, ResourceError
os.setuid(65534)
for name in sys.argv[1:]:
    try:
        prepared, reader = build(Path(name))
        count = len(reader.table)
        print(prepared.built, len(prepared.rows.gather(np.arange(count))), len(reader.seen))
    except ResourceError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_read_only_cache_is_read(folder, cache_root, tmp_path):
    for path in (tmp_path, *tmp_path.parents, cache_root, *cache_root.parents):
        if path.owner() == "root" and len(path.parts) > 2:
            path.chmod(0o755)
    build(folder)
    young = tmp_path / "young"
    young.mkdir()
    for path in folder.iterdir():
        (young / path.name).write_bytes(path.read_bytes())
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (5, 5)).save(more / "a.png")

    code = READ_ONLY.format(tests=str(HERE))
    done = subprocess.run(
        [sys.executable, "-c", code, folder, young, more],
        capture_output=True,
        text=True,
        check=False,
    )

    known, read, lacking = done.stdout.splitlines()
    assert known == "0 30 0"
    assert read == "0 30 30"
    assert "[no-cache]" in lacking
    assert f"{cache_root} is read-only and lacks 1 preprocessed images" in lacking
