from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sightx.builtin.preprocess import Resize
from sightx.data.cache.hashes import stat_files as look
from sightx.data.preparation import CacheConfig, PreprocessJob, load_or_build
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


def fill(folder, chain=CHAIN, **given):
    reader = Reader(folder)
    source = PreprocessJob(reader.table, look(reader.table), chain)
    return load_or_build(source, CacheConfig("disk"), **given), reader


def truth(folder):
    reader = Reader(folder)
    return torch.stack(
        [preprocess_image(reader(index), CHAIN) for index in range(len(reader.table))]
    )


def all_rows(prepared):
    return prepared.rows.gather(np.arange(len(prepared.rows)))


def shelf_of(store):
    (found,) = (store / "shelves").iterdir()
    return found


def test_what_is_there_is_neither_read_nor_made_again(folder, store):
    first, _ = fill(folder)
    again, reader = fill(folder)

    assert (first.made, again.made, reader.seen) == (30, 0, [])
    assert torch.equal(all_rows(first), truth(folder))
    assert torch.equal(all_rows(again), truth(folder))
    assert list(first.digests) == list(again.digests)


def test_any_number_of_threads_writes_the_same_files(folder, tmp_path, monkeypatch):
    (folder / "07.png").write_bytes(b"no image")
    (folder / "09.png").write_bytes((folder / "21.png").read_bytes())
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setenv("SIGHTX_CACHE", str(tmp_path / str(threads)))
        prepared, _ = fill(folder, threads=threads)
        shelf = shelf_of(tmp_path / str(threads))
        contents = [(shelf / name).read_bytes() for name in ("rows.bin", "index.bin")]
        found.append((shelf.name, contents, list(prepared.digests), prepared.bad))

    assert found[0] == found[1] == found[2]
    assert len(found[0][1][0]) == 28 * SIZE


def test_one_changed_image_costs_one_row(folder, store):
    fill(folder)
    new = np.full((9, 8, 3), 77, np.uint8)
    Image.fromarray(new).save(folder / "11.png")

    prepared, reader = fill(folder)

    assert (reader.seen, prepared.made) == ([11], 1)
    assert torch.equal(all_rows(prepared), truth(folder))
    assert (shelf_of(store) / "rows.bin").stat().st_size == 31 * SIZE


class Drawn:
    """Read as a dataset does that has a setting of its own."""

    def __init__(self, level):
        self.level = level

    def __call__(self, index):
        return np.full((9, 8, 3), self.level, np.uint8)


def test_a_reader_that_does_more_than_read_files_is_asked_each_time(folder, store):
    """The state of a file says nothing of what such a one makes of it."""
    paths = sorted(path.name for path in folder.iterdir())
    frame = pd.DataFrame({"path": paths, "label": 0, "group": ""})
    for level in (10, 20, 10):
        table = ImageTable(frame, ("a",), Drawn(level), root=folder).take(np.arange(30)[::-1])
        prepared = load_or_build(PreprocessJob(table, look(table), CHAIN), CacheConfig("disk"))
        assert all_rows(prepared).unique().tolist() == [level]


def test_a_file_that_moved_or_aged_costs_no_row(folder, store):
    fill(folder)
    (folder / "03.png").rename(folder / "99.png")
    os.utime(folder / "05.png", ns=(10**18, 10**18))

    prepared, reader = fill(folder)

    assert sorted(reader.table.frame["path"][reader.seen]) == ["05.png", "99.png"]
    assert prepared.made == 0
    assert torch.equal(all_rows(prepared), truth(folder))


def test_images_of_one_content_share_a_row(folder, store):
    for name in ("02.png", "17.png", "29.png"):
        (folder / name).write_bytes((folder / "20.png").read_bytes())

    prepared, _ = fill(folder, threads=3)

    assert prepared.made == 27
    assert len(set(prepared.rows.index[[2, 17, 20, 29]])) == 1
    assert torch.equal(all_rows(prepared), truth(folder))


def test_another_chain_has_rows_of_its_own(folder, store):
    fill(folder)
    prepared, _ = fill(folder, chain=(Resize(size=4),))

    assert prepared.rows.shape == (3, 4, 4)
    assert prepared.made == 30
    assert len(list((store / "shelves").iterdir())) == 2


def test_bad_images_have_no_row_and_are_tried_again(folder, store):
    (folder / "04.png").write_bytes(b"")
    first, _ = fill(folder)
    again, reader = fill(folder)

    assert first.bad == again.bad == {4: "empty file"}
    assert first.rows.index[4] == again.rows.index[4] == -1
    assert reader.seen == [4]


# Damage


def test_damaged_rows_are_made_again_when_they_are_looked_for(folder, store):
    fill(folder)
    file = shelf_of(store) / "rows.bin"
    data = bytearray(file.read_bytes())
    for number in (0, 12, 29):
        data[number * SIZE + 8] ^= 4
    file.write_bytes(data)

    prepared, reader = fill(folder, verify=True)
    again, _ = fill(folder, verify=True)

    assert (sorted(reader.seen), prepared.made, prepared.damaged) == ([0, 12, 29], 3, 3)
    assert torch.equal(all_rows(prepared), truth(folder))
    assert (again.made, again.damaged) == (0, 0)


@pytest.mark.parametrize(
    ("name", "size"), [("rows.bin", 11 * SIZE + 7), ("index.bin", 11 * 36 + 7)]
)
def test_files_that_were_cut_are_mended(folder, store, name, size):
    fill(folder)
    os.truncate(shelf_of(store) / name, size)

    prepared, reader = fill(folder)

    assert (sorted(reader.seen), prepared.made) == (list(range(11, 30)), 19)
    assert torch.equal(all_rows(prepared), truth(folder))
    assert (shelf_of(store) / "rows.bin").stat().st_size == 30 * SIZE


# Several processes, and the end of one


SLOWLY = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import sightx.data.cache.row_file
sightx.data.cache.row_file._SECONDS = 0.05
from test_build import fill
def progress(done, of):
    print(done, flush=True)
    time.sleep({pause})
prepared, reader = fill(Path({folder!r}), threads=1, progress=progress)
print("made", prepared.made, flush=True)
"""


def filling(folder, pause=0.05):
    code = SLOWLY.format(tests=str(HERE), folder=str(folder), pause=pause)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_fill_that_was_killed_goes_on_where_it_was(folder, store):
    with filling(folder) as other:
        while other.stdout.readline() != "15\n":
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert other.stderr.read() == ""

    prepared, reader = fill(folder)

    assert 0 < prepared.made < 30
    assert len(set(prepared.rows.index)) == 30
    assert torch.equal(all_rows(prepared), truth(folder))
    assert len(reader.seen) >= prepared.made


def test_one_process_fills_and_the_other_waits(folder, store, caplog):
    with filling(folder) as other:
        other.stdout.readline()
        with caplog.at_level("INFO", "sightx"):
            prepared, reader = fill(folder)
        assert other.stdout.read().endswith("made 30\n")
        assert other.stderr.read() == ""

    assert (prepared.made, reader.seen) == (0, [])
    assert torch.equal(all_rows(prepared), truth(folder))
    (line,) = caplog.messages
    assert line.startswith(f"waiting for pid {other.pid} on host ")
    assert line.endswith(", which fills the store")


def test_who_waits_can_be_interrupted(folder, store):
    fill(folder)
    os.truncate(shelf_of(store) / "rows.bin", 0)
    held = locks.exclusive_lock(shelf_of(store) / "filling.json", create=True)

    def progress(done, of):
        assert (done, of) == (0, 30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(folder, progress=progress)
    held.release()


def test_an_interrupt_keeps_what_was_made(folder, store):
    def progress(done, of):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(folder, progress=progress)
    prepared, reader = fill(folder)

    assert prepared.made == 20
    assert sorted(reader.seen) == list(range(10, 30))


# Disks that refuse


def test_a_disk_without_room_is_said_before_anything_is_written(folder, store, monkeypatch):
    monkeypatch.setattr("sightx.io.system.free_space", lambda folder: 29 * SIZE)

    with pytest.raises(ResourceError, match=r"\[disk-full\] .*need 2\.7 kB, .* has 2\.6 kB free"):
        fill(folder)
    assert (shelf_of(store) / "rows.bin").stat().st_size == 0


def test_what_may_be_there_needs_no_room(folder, store, monkeypatch):
    fill(folder)
    for file in (store / "files").iterdir():
        file.unlink()
    monkeypatch.setattr("sightx.io.system.free_space", lambda folder: 0)

    assert fill(folder)[0].made == 0


READ_ONLY = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import numpy as np
from test_build import fill, ResourceError
os.setuid(65534)
for name in sys.argv[1:]:
    try:
        prepared, reader = fill(Path(name))
        count = len(reader.table)
        print(prepared.made, len(prepared.rows.gather(np.arange(count))), len(reader.seen))
    except ResourceError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_store_that_is_read_only_is_read(folder, store, tmp_path):
    for path in (tmp_path, *tmp_path.parents, store, *store.parents):
        if path.owner() == "root" and len(path.parts) > 2:
            path.chmod(0o755)
    fill(folder)
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
    assert f"{store} is read-only and lacks 1 prepared images" in lacking
