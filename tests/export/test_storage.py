"""Files in a folder and behind URLs; `builtin/datasets/test_shards.py` has an HTTP server."""

from __future__ import annotations

import pytest

from sightx import DataError
from sightx.export.storage import ByteRange, Storage


def test_a_file_is_read_as_a_whole_and_in_part(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    storage = Storage.open(str(tmp_path), "")
    assert storage.read("a.tar", "") == b"0123456789"
    assert storage.read_part("a.tar", ByteRange(3, 4, 10), "") == b"3456"


def test_a_missing_file_is_named_with_the_way_to_write_it(tmp_path):
    with pytest.raises(DataError, match=r"missing-data\] no a\.json: .*; write it"):
        Storage.open(str(tmp_path), "").read("a.json", "write it")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(DataError) as caught:
        Storage.open("s3://bucket/shards", "").read("shards.json", "")
    line = str(caught.value)
    assert line.startswith("error[missing-package] dataset.root: s3:// needs a package")
    assert "s3fs" in line


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nosuch://bucket/shards", "nosuch:// is none of http, https, s3"),
        ("file:///etc", "file:// is none of"),
        ("simplecache::https://a.org/b", "leads through another"),
        ("zip://a.zip::https://me:secret@a.org/b", "leads through another"),
        ("https://me:secret@a.org/b", "no user and no password"),
        ("https://secret@a.org/b", "no user and no password"),
        ("s3://me:secret@bucket/b", "no user and no password"),
        ("https://a.org/b?token=secret", r"without \? and #"),
        ("https://a.org/b#secret", r"without \? and #"),
    ],
)
def test_a_url_names_only_a_folder(url, why):
    with pytest.raises(DataError, match=rf"bad-url\] dataset.root: .*{why}") as caught:
        Storage.open(url, "")
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)
