"""Shards on disk: complete, damaged, truncated, and described wrongly by a spec."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.reduction import ForkingPickler
from pickle import loads

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sightx
from sightx import DataError, SpecError
from sightx.data.decode.decoder import BadImage
from sightx.export.shards import write_shards
from sightx.plugin import Traits, table_from_shards

TRAITS = Traits(("dark", "light"), has_split=True)


def write(experiment, folder, **settings):
    return write_shards(experiment, folder, folder.parent / "bad-images.csv", **settings)


@pytest.fixture
def original(spec):
    return sightx.load(spec).dataset.table()


@pytest.fixture
def experiment(spec):
    return sightx.load(spec)


@pytest.fixture
def shards(experiment, tmp_path):
    """Write the 48 images of `folders` into shards of at most 20,480 bytes."""
    write(experiment, tmp_path / "shards", shard_size=20_480)
    return tmp_path / "shards"


def problem(shards, traits=TRAITS):
    """Return the problem of opening shards."""
    with pytest.raises(DataError) as caught:
        table_from_shards(str(shards), traits)
    (found,) = caught.value.problems
    assert found.file.startswith(str(shards))
    return found


def test_the_table_is_the_one_that_was_written(original, shards):
    table = table_from_shards(str(shards), TRAITS)
    columns = ["path", "label", "group", "split"]
    assert table.frame[columns].equals(original.frame[columns])
    assert (table.classes, table.ordered, table.root) == (("dark", "light"), False, None)
    assert [table.read(index) for index in range(48)] == [original.read(n) for n in range(48)]
    assert table.line(0) == 2
    assert table.source == str(shards / "index.csv")
    assert table.take(pd.Index([7, 3]).to_numpy()).read(1) == original.read(3)


def test_threads_and_other_processes_can_read(original, shards):
    table = table_from_shards(str(shards), TRAITS)
    wanted = [original.read(index) for index in range(48)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(table.read, list(range(48)) * 20)) == wanted * 20
    sent = loads(bytes(ForkingPickler.dumps(table)))  # what a spawned worker gets
    assert [sent.read(index) for index in range(48)] == wanted


def test_a_damaged_member_is_one_bad_image(shards):
    table = table_from_shards(str(shards), TRAITS)
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
        table_from_shards(str(shards), TRAITS).read(5)


def test_a_label_may_be_corrected(original, shards):
    path = shards / "index.csv"
    path.write_text(path.read_text().replace("train/dark/1.png,dark", "train/dark/1.png,light"))
    labels = table_from_shards(str(shards), TRAITS).labels
    assert (labels != original.labels).nonzero()[0].tolist() == [1]


def test_missing_and_truncated_shards(shards):
    first = shards / "shard-000000.tar"
    whole = first.read_bytes()
    first.write_bytes(whole[:-512])
    found = problem(shards)
    assert found.file == str(first)
    assert found.message == f"has {len(whole) - 512} bytes, {len(whole)} were written"
    first.write_bytes(whole)
    table = table_from_shards(str(shards), TRAITS)
    first.unlink()
    assert problem(shards).message == "cannot be read: No such file or directory"
    with pytest.raises(DataError, match=r"shard-000000\.tar, 00000003 cannot be read: No"):
        table.read(3)


def test_a_truncated_index(shards):
    path = shards / "index.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    assert problem(shards).message == "has 45 rows, 48 were written"
    path.write_text("".join(lines)[:-20])
    found = problem(shards)
    assert (found.code, found.line) == ("not-as-written", 49)
    assert "has an incomplete SHA-256" in found.message
    path.write_text("".join(lines)[:-90])
    assert problem(shards).code == "not-as-written"
    path.write_text("")
    assert "is not a valid index" in problem(shards).message
    path.unlink()
    assert problem(shards).code == "missing-data"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "grey", "'train/dark/10.png' has a label that is not a class"),
        ("shard", "other.tar", "'train/dark/10.png' is outside the shards"),
        ("offset", 99_999_999, "'train/dark/10.png' is outside the shards"),
        ("offset", 2**63 - 1, "'train/dark/10.png' is outside the shards"),  # with its size: < 0
        ("size", -1, "'train/dark/10.png' is outside the shards"),
        ("split", "somewhere", "'train/dark/10.png' has an unknown split"),
        ("path", "train/dark/0.png", "'train/dark/0.png' occurs twice"),
        ("sha256", "xyz", "'train/dark/10.png' has an incomplete SHA-256"),
    ],
)
def test_an_invalid_row(shards, column, value, message):
    path = shards / "index.csv"
    index = pd.read_csv(path, dtype=str, keep_default_na=False)
    index.loc[2, column] = str(value)
    index.to_csv(path, index=False)
    found = problem(shards)
    assert (found.code, found.line, found.message) == ("not-as-written", 4, message)


def test_invalid_numbers_and_missing_columns(shards):
    path = shards / "index.csv"
    text = path.read_text()
    path.write_text(text.replace(",512,", ",many,", 1))
    assert "is not a valid index" in problem(shards).message
    path.write_text(text.replace("sha256", "md5", 1))
    assert problem(shards).message == "has no column sha256"


def test_an_invalid_description(shards):
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
    assert len(table_from_shards(str(shards), TRAITS)) == 48


def test_a_missing_folder_and_an_unset_place(tmp_path):
    for root, message in ((tmp_path / "gone", "is not a folder"), ("@gone", "@gone is not set")):
        with pytest.raises(DataError, match=message) as caught:
            table_from_shards(str(root), TRAITS)
        assert "sightx prepare SPEC --shards DIR" in str(caught.value)


def test_a_spec_must_agree_with_the_shards(shards):
    found = problem(shards, Traits(has_split=True, ordered=True))
    assert (found.code, found.path) == ("other-traits", "dataset.ordered")


def test_a_shard_that_leads_out_of_its_folder_is_not_read(shards, tmp_path):
    table = table_from_shards(str(shards), TRAITS)
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
    assert table_from_shards(str(tmp_path / "door"), TRAITS).read(0)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_tar_files_hold_the_images_and_their_labels(experiment, shards):
    table, found = experiment.dataset.table(), {}
    for path in sorted(shards.glob("*.tar")):
        assert path.stat().st_size <= 20_480
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
                found[member.name] = tar.extractfile(member).read()
    assert len(list(shards.glob("*.tar"))) > 2
    for index in range(48):
        assert found.pop(f"{index:08}.png") == table.read(index)
        assert found.pop(f"{index:08}.cls") == str(table.labels[index]).encode()
    assert found == {}


def test_the_index_has_the_offset_of_each_image(experiment, shards):
    table = experiment.dataset.table()
    index = pd.read_csv(shards / "index.csv", keep_default_na=False)
    assert list(index) == [
        "path", "label", "group", "split", "shard", "key", "offset", "size", "sha256",
    ]  # fmt: skip
    assert list(index["path"]) == list(table.frame["path"])
    assert list(index["split"]) == list(table.frame["split"])
    assert list(index["label"]) == [table.classes[label] for label in table.labels]
    for row in index.itertuples():
        raw = (shards / row.shard).read_bytes()[row.offset : row.offset + row.size]
        assert raw == table.read(row.Index)
        assert row.sha256 == hashlib.sha256(raw).hexdigest()
    description = json.loads((shards / "shards.json").read_text())
    assert (description["classes"], description["ordered"]) == (["dark", "light"], False)
    assert {shard["name"]: shard["size"] for shard in description["shards"]} == {
        path.name: path.stat().st_size for path in shards.glob("*.tar")
    }


def test_the_webdataset_library_reads_them(experiment, shards):
    webdataset = pytest.importorskip("webdataset", reason="it comes with the extra dev")
    from webdataset.tariterators import group_by_keys, tar_file_expander

    table = experiment.dataset.table()
    with ExitStack() as stack:  # WebDataset itself leaves its files for the collector to close
        paths = sorted(shards.glob("*.tar"))
        streams = [{"url": str(p), "stream": stack.enter_context(p.open("rb"))} for p in paths]
        samples = list(group_by_keys(tar_file_expander(streams)))
    decode = webdataset.Decoder([webdataset.imagehandler("rgb8")])
    assert [sample["__key__"] for sample in samples] == [f"{n:08}" for n in range(48)]
    for index, sample in enumerate(map(decode, samples)):
        assert sample["cls"] == table.labels[index]
        assert (sample["png"] == np.array(Image.open(io.BytesIO(table.read(index))))).all()


def test_the_same_images_give_the_same_bytes(experiment, shards, tmp_path):
    write(experiment, tmp_path / "again", shard_size=20_480)
    assert files(tmp_path / "again") == files(shards)


def test_an_image_larger_than_a_shard_gets_its_own(experiment, tmp_path):
    written = write(experiment, tmp_path / "tiny", shard_size=1)
    assert len(list((tmp_path / "tiny").glob("*.tar"))) == written.samples == 48
    assert written.size == sum(p.stat().st_size for p in (tmp_path / "tiny").glob("*.tar"))


def test_images_without_files_are_written_without_loss(write_spec, tmp_path):
    spec = write_spec(
        'name = "drawn"\n[dataset]\nuse = "synthetic-fundus"\npatients = 10\nsize = 32\n'
        '[model]\nuse = "simplenet"\n[[preprocess]]\nuse = "resize"\nsize = 32\n'
    )
    experiment = sightx.load(spec)
    written = write(experiment, tmp_path / "drawn")
    before, after = experiment.dataset.table(), sightx.load(tmp_path / "drawn" / "spec.toml")
    table = after.dataset.table()
    assert written.dataset["ordered"]
    assert written.dataset["groups"]
    assert list(table.groups) == list(before.groups)
    assert table.ordered
    for index in range(len(table)):
        image = Image.open(io.BytesIO(table.read(index)))
        assert image.format == "PNG"
        assert (np.array(image) == before.read(index)).all()


def test_bad_images_are_refused_or_left_out(folders, experiment, tmp_path):
    bad = folders / "train" / "dark" / "3.png"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(DataError, match=r"train/dark/3\.png") as caught:
        write(experiment, tmp_path / "shards")
    assert caught.value.problems[0].code == "bad-images"
    assert list((tmp_path / "shards").iterdir()) == []
    listed = tmp_path / "bad-images.csv"

    without = sightx.load(experiment.context.path, [f'dataset.exclude="{listed}"'])
    written = write(without, tmp_path / "shards")
    assert written.samples == 47
    skipping = sightx.load(
        experiment.context.path,
        ['dataset.on_bad_image="skip"', "dataset.bad_images_at_most=0.1"],
    )
    write(skipping, tmp_path / "skipped")
    for name in ("shards", "skipped"):
        table = sightx.load(tmp_path / name / "spec.toml").dataset.table()
        assert len(table) == 47
        assert "train/dark/3.png" not in set(table.frame["path"])
        assert all(table.read(index) for index in range(47))


def test_nothing_is_overwritten(experiment, shards):
    before = files(shards)
    with pytest.raises(SpecError, match=r"is not empty: it contains index.csv, shard-000000.tar"):
        write(experiment, shards)
    assert files(shards) == before


def test_an_interrupt_leaves_an_empty_folder(experiment, tmp_path):
    def stop(done, of):
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(experiment, tmp_path / "shards", shard_size=20_480, progress=stop)
    assert list((tmp_path / "shards").iterdir()) == []

    (tmp_path / "shards" / ".writing").mkdir()  # what SIGKILL leaves
    (tmp_path / "shards" / ".writing.lock").touch()
    (tmp_path / "shards" / ".writing" / "shard-000009.tar").write_bytes(b"half")
    done = []
    write(experiment, tmp_path / "shards", shard_size=20_480, progress=lambda *n: done.append(n))
    assert done == [(n + 1, 48) for n in range(48)]
    assert "shard-000009.tar" not in files(tmp_path / "shards")
    assert ".writing" not in files(tmp_path / "shards")
