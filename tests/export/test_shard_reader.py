"""Shards on disk: whole, damaged, cut, and not what a spec says."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from pickle import loads

import pandas as pd
import pytest

import sightx
from sightx import DataError
from sightx.data.decode.decoder import BadImage
from sightx.export import shard_writer
from sightx.plugin import Traits, table_from_shards

GIVEN = Traits(("dark", "light"), has_split=True)


@pytest.fixture
def original(spec):
    return sightx.load(spec).dataset.table()


@pytest.fixture
def shards(spec, tmp_path):
    """48 images in shards of at most 20,480 bytes."""
    shard_writer.write_shards(
        sightx.load(spec), tmp_path / "shards", tmp_path / "bad", shard_size=20_480
    )
    return tmp_path / "shards"


def problem(shards, traits=GIVEN):
    """Return the problem of opening shards."""
    with pytest.raises(DataError) as caught:
        table_from_shards(str(shards), traits)
    (found,) = caught.value.problems
    assert found.file.startswith(str(shards))
    return found


def test_the_table_is_the_one_that_was_written(original, shards):
    table = table_from_shards(str(shards), GIVEN)
    columns = ["path", "label", "group", "split"]
    assert table.frame[columns].equals(original.frame[columns])
    assert (table.classes, table.ordered, table.root) == (("dark", "light"), False, None)
    assert [table.read(index) for index in range(48)] == [original.read(n) for n in range(48)]
    assert table.line(0) == 2
    assert table.source == str(shards / "index.csv")
    assert table.take(pd.Index([7, 3]).to_numpy()).read(1) == original.read(3)


def test_threads_and_other_processes_can_read(original, shards):
    table = table_from_shards(str(shards), GIVEN)
    wanted = [original.read(index) for index in range(48)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(table.read, list(range(48)) * 20)) == wanted * 20
    sent = loads(bytes(ForkingPickler.dumps(table)))  # what a spawned worker gets
    assert [sent.read(index) for index in range(48)] == wanted


def test_a_damaged_member_is_one_bad_image(shards):
    table = table_from_shards(str(shards), GIVEN)
    index = pd.read_csv(shards / "index.csv")
    row = index.iloc[20]
    raw = bytearray((shards / row["shard"]).read_bytes())
    raw[row["offset"] + 100] ^= 1
    (shards / row["shard"]).write_bytes(raw)
    with pytest.raises(BadImage, match=f"{row['shard']}, 00000020: not what was written"):
        table.read(20)
    assert table.read(21)


def test_a_wrong_hash_is_one_bad_image(shards):
    path = shards / "index.csv"
    index = pd.read_csv(path, dtype=str, keep_default_na=False)
    index.loc[5, "sha256"] = "0" * 64
    index.to_csv(path, index=False)
    with pytest.raises(BadImage, match=r"shard-000000\.tar, 00000005: not what was written"):
        table_from_shards(str(shards), GIVEN).read(5)


def test_a_label_may_be_mended(original, shards):
    path = shards / "index.csv"
    path.write_text(path.read_text().replace("train/dark/1.png,dark", "train/dark/1.png,light"))
    labels = table_from_shards(str(shards), GIVEN).labels
    assert (labels != original.labels).nonzero()[0].tolist() == [1]


def test_missing_and_cut_shards(shards):
    first = shards / "shard-000000.tar"
    whole = first.read_bytes()
    first.write_bytes(whole[:-512])
    found = problem(shards)
    assert found.file == str(first)
    assert found.message == f"has {len(whole) - 512} bytes, {len(whole)} were written"
    first.write_bytes(whole)
    table = table_from_shards(str(shards), GIVEN)
    first.unlink()
    assert problem(shards).message == "cannot be read: No such file or directory"
    with pytest.raises(DataError, match=r"shard-000000\.tar, 00000003 cannot be read: No"):
        table.read(3)


def test_a_cut_index(shards):
    path = shards / "index.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    assert problem(shards).message == "has 45 rows, 48 were written"
    path.write_text("".join(lines)[:-20])
    found = problem(shards)
    assert (found.code, found.line) == ("not-as-written", 49)
    assert "has no whole hash" in found.message
    path.write_text("".join(lines)[:-90])
    assert problem(shards).code == "not-as-written"
    path.write_text("")
    assert "is no index" in problem(shards).message
    path.unlink()
    assert problem(shards).code == "missing-data"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "grey", "'train/dark/10.png' has a label that is no class"),
        ("shard", "other.tar", "'train/dark/10.png' lies outside the shards"),
        ("offset", 99_999_999, "'train/dark/10.png' lies outside the shards"),
        ("offset", 2**63 - 1, "'train/dark/10.png' lies outside the shards"),  # with its size: < 0
        ("size", -1, "'train/dark/10.png' lies outside the shards"),
        ("split", "somewhere", "'train/dark/10.png' is on no side that there is"),
        ("path", "train/dark/0.png", "'train/dark/0.png' stands twice"),
        ("sha256", "xyz", "'train/dark/10.png' has no whole hash"),
    ],
)
def test_a_row_that_cannot_be(shards, column, value, message):
    path = shards / "index.csv"
    index = pd.read_csv(path, dtype=str, keep_default_na=False)
    index.loc[2, column] = str(value)
    index.to_csv(path, index=False)
    found = problem(shards)
    assert (found.code, found.line, found.message) == ("not-as-written", 4, message)


def test_numbers_and_columns_that_cannot_be(shards):
    path = shards / "index.csv"
    text = path.read_text()
    path.write_text(text.replace(",512,", ",many,", 1))
    assert "is no index" in problem(shards).message
    path.write_text(text.replace("sha256", "md5", 1))
    assert problem(shards).message == "has no column sha256"


def test_a_description_that_cannot_be(shards):
    path = shards / "shards.json"
    text = path.read_text()
    for change in (
        {"format": 2}, {"shards": [{"name": "../x.tar", "size": 1}]}, {"samples": -1}, {"more": 1},
    ):  # fmt: skip
        path.write_text(json.dumps({**json.loads(text), **change}))
        found = problem(shards)
        assert found.code == "not-as-written"
        assert next(iter(change)) in found.message
    path.write_text("{")
    assert problem(shards).code == "not-as-written"
    path.unlink()
    assert "no shards.json" in problem(shards).message
    path.write_text(text)
    assert len(table_from_shards(str(shards), GIVEN)) == 48


def test_no_folder_and_no_place(tmp_path):
    for root, message in ((tmp_path / "gone", "is no folder"), ("@gone", "@gone is not set")):
        with pytest.raises(DataError, match=message) as caught:
            table_from_shards(str(root), GIVEN)
        assert "sightx prepare SPEC --shards DIR" in str(caught.value)


def test_a_spec_must_say_the_truth(shards):
    found = problem(shards, Traits(has_split=True, ordered=True))
    assert (found.code, found.path) == ("other-traits", "dataset.ordered")


def test_a_store_whose_package_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(DataError) as caught:
        table_from_shards("s3://bucket/shards", GIVEN)
    line = str(caught.value)
    assert line.startswith("error[missing-package] dataset.root: s3:// needs a package")
    assert "s3fs" in line


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nosuch://bucket/shards", "nosuch:// is none of http, https, s3"),
        ("file:///etc", "file:// is none of"),
        ("simplecache::https://a.org/b", "leads through another"),
        ("zip://a.zip::https://me:word@a.org/b", "leads through another"),
        ("https://me:word@a.org/b", "no user and no password"),
        ("https://word@a.org/b", "no user and no password"),
        ("s3://me:word@bucket/b", "no user and no password"),
        ("https://a.org/b?token=word", r"without \? and #"),
        ("https://a.org/b#word", r"without \? and #"),
    ],
)
def test_a_url_is_no_more_than_a_place(url, why):
    with pytest.raises(DataError, match=rf"bad-url\] dataset.root: .*{why}") as caught:
        table_from_shards(url, GIVEN)
    assert "word@" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_a_shard_that_leads_out_of_its_folder_is_not_read(shards, tmp_path):
    table = table_from_shards(str(shards), GIVEN)
    first = shards / "shard-000000.tar"
    first.rename(tmp_path / "elsewhere.tar")
    first.symlink_to(tmp_path / "elsewhere.tar")
    assert "leads out of the folder" in problem(shards).message
    with pytest.raises(DataError, match="leads out of the folder"):
        table.read(0)
    (tmp_path / "door").symlink_to(shards)
    first.unlink()
    (shards / "inner").mkdir()
    (tmp_path / "elsewhere.tar").rename(shards / "inner" / "moved.tar")
    first.symlink_to("inner/moved.tar")  # links inside are followed, and the folder may be one
    assert table_from_shards(str(tmp_path / "door"), GIVEN).read(0)
