from __future__ import annotations

import errno
import os
import pickle

import pytest

from sightx.io.files import FileFinder, file_reader, resolve_below


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
def test_paths_out_of_the_folder_are_refused(tmp_path, path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_bytes(b"1")
    (home / "file").symlink_to(tmp_path / "secret")
    (home / "folder").symlink_to(tmp_path)
    (home / "chain").symlink_to("file")

    with pytest.raises(OSError, match="leads out") as caught:
        resolve_below(os.path.realpath(home), path)
    assert caught.value.errno == errno.EXDEV


def test_a_folder_with_the_same_prefix_is_outside(tmp_path):
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


def test_a_finder_stats_the_files_that_a_reader_reads(tmp_path):
    root = tmp_path / "root"
    (root / "x").mkdir(parents=True)
    (root / "x" / "a").write_bytes(b"12")
    (root / "b").symlink_to("x/a")
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(b"1")
    find = FileFinder(root)

    assert [find(path).st_size for path in ("x/a", "b", "x/a")] == [2, 2, 2]
    with pytest.raises(OSError, match="leads out"):
        find("out/secret")
    for path in ("x", "x/..", "."):
        with pytest.raises(OSError, match=r"not a file|leads out"):
            find(path)
    with pytest.raises(FileNotFoundError):
        find("x/none")
