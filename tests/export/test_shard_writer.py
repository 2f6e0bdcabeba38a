"""Shards as tarfile, the webdataset library and the dataset itself read them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sightx
from sightx import DataError, SpecError
from sightx.export import shard_writer


def write(experiment, folder, **settings):
    return shard_writer.write_shards(
        experiment, folder, folder.parent / "bad-images.csv", **settings
    )


@pytest.fixture
def experiment(spec):
    return sightx.load(spec)


@pytest.fixture
def shards(experiment, tmp_path):
    """Write the 48 images of `folders` into shards of at most 20,480 bytes."""
    write(experiment, tmp_path / "shards", shard_size=20_480)
    return tmp_path / "shards"


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


def test_the_index_says_where_each_image_is(experiment, shards):
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
    described = json.loads((shards / "shards.json").read_text())
    assert (described["classes"], described["ordered"]) == (["dark", "light"], False)
    assert {shard["name"]: shard["size"] for shard in described["shards"]} == {
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


def test_one_large_image_has_a_shard_of_its_own(experiment, tmp_path):
    written = write(experiment, tmp_path / "tiny", shard_size=1)
    assert len(list((tmp_path / "tiny").glob("*.tar"))) == written.samples == 48
    assert written.size == sum(p.stat().st_size for p in (tmp_path / "tiny").glob("*.tar"))


def test_what_is_no_file_is_written_without_loss(write_spec, tmp_path):
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


def test_a_bad_image_is_found_before_anybody_trains(folders, experiment, tmp_path):
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
    with pytest.raises(SpecError, match=r"is not empty: it holds index.csv, shard-000000.tar"):
        write(experiment, shards)
    assert files(shards) == before


def test_an_interrupt_leaves_nothing_that_looks_whole(experiment, tmp_path):
    def stop(done, of):
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(experiment, tmp_path / "shards", shard_size=20_480, progress=stop)
    assert list((tmp_path / "shards").iterdir()) == []

    (tmp_path / "shards" / ".writing").mkdir()  # what SIGKILL leaves
    (tmp_path / "shards" / ".writing" / "shard-000009.tar").write_bytes(b"half")
    done = []
    write(experiment, tmp_path / "shards", shard_size=20_480, progress=lambda *n: done.append(n))
    assert done == [(n + 1, 48) for n in range(48)]
    assert "shard-000009.tar" not in files(tmp_path / "shards")
    assert ".writing" not in files(tmp_path / "shards")
