from __future__ import annotations

import fcntl
import hashlib
import os
import time

import numpy as np
import pandas as pd
import pytest

from sightx.data.cache.file_hashes import FileHashCache, stat_files
from sightx.io.files import file_reader
from sightx.records.table import ImageTable

LONG_AGO = time.time_ns() - 10**13


def digest(content):
    return hashlib.sha256(content).digest()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "x").mkdir(parents=True)
    for number in range(20):
        path = tmp_path / "images" / ("x" if number % 2 else "") / f"{number}.png"
        path.write_bytes(b"content %d" % number)
        os.utime(path, ns=(LONG_AGO, LONG_AGO + number))
    time.sleep(0.1)  # the time of change, which cannot be set, must be old enough too
    return tmp_path / "images"


def table_of(folder, paths=None):
    paths = paths or sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    frame = pd.DataFrame({"path": paths, "label": 0, "group": ""})
    return ImageTable(frame, ("a",), file_reader(folder, paths), root=folder)


def learn(folder, cache_root):
    """Read every file as building the cache does, and remember its hash."""
    table = table_of(folder)
    known = FileHashCache(cache_root, table, stat_files(table))
    for index in range(len(table)):
        known.add(index, digest(table.read(index)))
    known.write()


def recall(folder, cache_root):
    """Return the hashes that are known without reading, by path."""
    table = table_of(folder)
    found = FileHashCache(cache_root, table, stat_files(table)).known()
    return dict(zip(table.frame["path"], found, strict=True))


def truth(folder):
    table = table_of(folder)
    return {path: digest(table.read(i)).hex() for i, path in enumerate(table.frame["path"])}


def test_the_hash_of_an_unchanged_file_is_known(folder, cache_root):
    assert set(recall(folder, cache_root).values()) == {""}

    learn(folder, cache_root)

    assert recall(folder, cache_root) == truth(folder)
    assert recall(folder / "x", cache_root) == dict.fromkeys(
        truth(folder / "x"), ""
    )  # another root


@pytest.mark.parametrize("change", ["size", "time", "inode", "content only"])
def test_the_hash_of_a_changed_file_is_not_known(folder, cache_root, change):
    learn(folder, cache_root)
    path, before = folder / "4.png", (folder / "4.png").stat()
    if change == "inode":
        path.rename(folder / "old")
    path.write_bytes(b"CONTENT 4" if change != "size" else b"content 4 and more")
    moved = 1 if change == "time" else 0
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + moved))

    found = recall(folder, cache_root)

    assert found.pop("4.png") == ""
    assert found == {key: value for key, value in truth(folder).items() if key != "4.png"}
    time.sleep(0.1)
    learn(folder, cache_root)  # of two records the later counts
    assert recall(folder, cache_root) == truth(folder)


def test_a_file_that_was_changed_just_now_is_not_trusted(folder, cache_root):
    """It may be changed again within the tick of the clock that its time shows."""
    (folder / "4.png").write_bytes(b"content A")
    moment = (folder / "4.png").stat().st_mtime_ns
    learn(folder, cache_root)
    (folder / "4.png").write_bytes(b"content B")
    os.utime(folder / "4.png", ns=(moment, moment))

    assert recall(folder, cache_root)["4.png"] == ""


def test_a_file_that_is_changed_while_it_is_read_is_not_trusted(folder, cache_root):
    table = table_of(folder)
    known = FileHashCache(cache_root, table, stat_files(table))
    content = table.read(0)
    (folder / table.frame["path"][0]).write_bytes(b"other")
    known.add(0, digest(content))
    known.write()

    assert set(recall(folder, cache_root).values()) == {""}


def test_a_torn_record_does_not_harm_the_others(folder, cache_root):
    learn(folder, cache_root)
    (file,) = cache_root.iterdir()
    os.truncate(file, 16 + 72 * 5 + 13)
    assert sum(value != "" for value in recall(folder, cache_root).values()) == 5

    learn(folder, cache_root)

    assert recall(folder, cache_root) == truth(folder)
    assert file.stat().st_size == 16 + 72 * 25


def test_two_processes_that_write_at_once_lose_nothing(folder, cache_root, monkeypatch):
    """The second has opened the file when the first appends to it."""
    flock, table = fcntl.flock, table_of(folder)
    first, second = (FileHashCache(cache_root, table, stat_files(table)) for _ in range(2))
    for index in range(20):
        (first if index < 12 else second).add(index, digest(table.read(index)))

    def late(file, kind):
        monkeypatch.setattr(fcntl, "flock", flock)
        first.write()
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    second.write()

    assert recall(folder, cache_root) == truth(folder)


def test_a_file_that_cannot_be_written_is_not_an_error(folder, tmp_path):
    (tmp_path / "file").touch()
    learn(folder, tmp_path / "file")

    assert set(recall(folder, tmp_path / "file").values()) == {""}


def test_hashes_of_the_dataset_are_used_and_without_files_none_are_known(cache_root):
    frame = pd.DataFrame({"path": ["a", "b"], "label": 0, "group": ""})
    table = ImageTable(frame, ("x",), lambda index: b"")
    assert list(FileHashCache(cache_root, table, stat_files(table)).known()) == ["", ""]

    named = table.with_frame(frame.assign(sha256=[digest(b"1").hex(), ""]))

    assert list(FileHashCache(cache_root, named, stat_files(named)).known()) == [
        digest(b"1").hex(),
        "",
    ]


def test_files_are_found_as_reading_finds_them(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"secret")
    (folder / "inside.png").symlink_to(folder / "x" / "1.png")
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    (folder / "y").symlink_to("x")
    (folder / "z").symlink_to(tmp_path / "elsewhere")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    expected = {
        "0.png": "", "x/1.png": "", "inside.png": "", "y/1.png": "", "x/../0.png": "",
        "outside.png": "leads out of the folder of images",
        "z/a.png": "leads out of the folder of images",
        "../secret.png": "leads out of the folder of images",
        "folder.png": "not a file", "pipe.png": "not a file",
        "none.png": "missing", "0.png/a": "missing", "n/a.png": "missing",
    }  # fmt: skip
    table = table_of(folder, list(expected))

    found = stat_files(table)

    assert {path: found.errors.get(i, "") for i, path in enumerate(expected)} == expected
    for index, reason in enumerate(expected.values()):
        if reason:
            with pytest.raises(OSError, match=r".*"):
                table.read(index)
        else:
            assert found.states["size"][index] == len(table.read(index))
    good = [index for index, reason in enumerate(expected.values()) if not reason]
    assert len(np.unique(found.states["inode"][good])) == 2


def test_a_file_of_the_user_with_the_name_of_ours_is_not_changed(folder, cache_root):
    learn(folder, cache_root)
    (file,) = cache_root.iterdir()
    file.write_bytes(b"not ours")

    learn(folder, cache_root)

    assert file.read_bytes() == b"not ours"
    assert set(recall(folder, cache_root).values()) == {""}
