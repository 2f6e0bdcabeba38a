from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sightx
from sightx.builtin.datasets.folder import ImageFolder
from sightx.builtin.preprocess import CenterCrop, Resize
from sightx.builtin.splits import Given, Stratified
from sightx.data.cache.placement import OnTheFlyPixels
from sightx.data.cache.row_file import RowFile, RowReader
from sightx.data.dataset import (
    CacheConfig,
    PreprocessJob,
    align_classes,
    content_hashes,
    load_or_build,
    load_table,
)
from sightx.data.preprocess import content_hash
from sightx.errors import DataError, ResourceError
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable
from support.experiments import prepared
from support.problems import problem_of

CHAIN = (Resize(size=4),)


@pytest.fixture
def image_table():
    """Make a table of some classes and labels, without images."""

    def make(classes, labels):
        paths = [str(row) for row in range(len(labels))]
        frame = pd.DataFrame({"path": paths, "label": labels, "group": ""})
        return ImageTable(frame, tuple(classes), lambda row: b"")

    return make


def test_splits_are_positions_of_rows_with_their_pixels(labels, get):
    data = get()

    assert {split: len(rows) for split, rows in data.splits.items()} == {
        "train": 24,
        "validation": 12,
        "test": 12,
    }
    assert data.counts("validation") == [6, 6]
    for split, rows in data.splits.items():
        assert set(data.table.frame["split"].iloc[rows]) == {split}
        means = data.rows.gather(rows).float().mean(dim=(1, 2, 3)).numpy()
        assert np.array_equal(means > 125, data.table.labels[rows] == 1)
    assert data.table.skipped == {}


def test_pixels_are_not_copied_if_nothing_is_bad(labels, get):
    rows = get().rows

    assert len(rows) == len(rows.pixels.tensor) == 48


def test_the_id_tells_content_and_labels_but_not_order_or_place(labels, get, folders, tmp_path):
    first = get().id
    header, *rows = (folders / "labels.csv").read_text().splitlines()
    (folders / "labels.csv").write_text("\n".join([header, *reversed(rows)]))
    assert get().id == first
    moved = shutil.copytree(folders, tmp_path / "moved")
    assert get(labels=str(moved / "labels.csv"), images=str(moved)).id == first
    (folders / "labels.csv").write_text(
        "\n".join([header, *rows]).replace("0.png,dark", "0.png,light", 1)
    )
    other = get().id
    shutil.copy(folders / labels[1], folders / labels[0])
    copied = get(allow=("conflicting-copies",)).id
    assert len({first, other, copied}) == 3


def test_rows_in_no_split_take_no_memory(labels, get, folders):
    text = (folders / "labels.csv").read_text()
    whole = get()
    (folders / "labels.csv").write_text(text.replace(",test\n", ",\n"))

    data = get()

    assert len(data.rows.pixels.tensor) == 36
    assert (len(data.rows), len(data.table), data.id) == (48, 48, whole.id)
    for split in ("train", "validation"):
        rows = data.splits[split]
        assert torch.equal(data.rows.gather(rows), whole.rows.gather(rows))
    with pytest.raises(IndexError):
        data.rows.gather(whole.splits["test"])


# Tables that cannot be used


def test_an_unknown_path_to_exclude_is_an_error(labels, get, folders):
    (folders / "excluded.csv").write_text(f"path,reason\n{labels[0]},x\ntrain/dark/12.png,x\n")

    found = problem_of(get, exclude=folders / "excluded.csv")

    assert (found.code, found.line) == ("exclude-unknown", 3)
    assert "did you mean" in found.hint


def test_excluding_everything_is_an_error(labels, get, folders):
    rows = "".join(f"{path},x\n" for path in labels)
    (folders / "excluded.csv").write_text(f"path,reason\n{rows}")

    found = problem_of(get, exclude=folders / "excluded.csv")

    assert found.code == "no-samples"
    assert found.file.endswith("excluded.csv")


def test_a_missing_exclude_file_is_named(labels, get, folders):
    assert problem_of(get, exclude=folders / "x.csv").code == "unreadable"
    unset = problem_of(get, exclude=type(folders)("@out/x.csv"))
    assert (unset.code, unset.path) == ("missing-data", "dataset.exclude")


def test_a_header_alone_has_no_samples(get, folders):
    (folders / "labels.csv").write_text("image,label,split\n")

    for split in (Given(), Stratified()):
        found = problem_of(get, split)
        assert found.code == "no-samples"
        assert found.file == str(folders / "labels.csv")


def test_a_training_split_is_required(get, labels, folders):
    text = (folders / "labels.csv").read_text()
    (folders / "labels.csv").write_text(text.replace(",train\n", ",\n"))

    assert problem_of(get).code == "no-training"


# Pixels from the cache, from a pack, or decoded on the fly


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def table_of(read=IMAGES.__getitem__):
    frame = pd.DataFrame({"path": [f"{i}" for i in range(12)], "label": 0, "group": ""})
    return ImageTable(frame, ("a",), read)


def job_of(table=None, chain=CHAIN):
    return PreprocessJob(table or table_of(), chain)


def pixels(prepared):
    return prepared.rows.gather(np.arange(12))


def test_off_gives_the_same_pixels_and_keeps_nothing(cache_root):
    calls = []
    cached = load_or_build(job_of(), CacheConfig("disk"))
    before = sorted(cache_root.rglob("*"))

    decoded = load_or_build(
        job_of(), CacheConfig("off", threads=2), lambda *counts: calls.append(counts)
    )

    assert isinstance(decoded.rows.pixels, OnTheFlyPixels)
    assert isinstance(cached.rows.pixels, RowReader)
    assert torch.equal(pixels(decoded), pixels(cached))
    hashes = [content_hash(image).hex() for image in IMAGES]
    assert list(decoded.hashes) == list(cached.hashes) == hashes
    assert calls == [(n, 12) for n in range(1, 13)]
    assert sorted(cache_root.rglob("*")) == before


def test_off_still_finds_every_bad_image_first():
    def read(index):
        return b"<html>" if index == 5 else IMAGES[index]

    assert load_or_build(job_of(table_of(read)), CacheConfig("off")).bad == {5: "not an image"}


def test_auto_does_without_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()

    found = load_or_build(job_of(), CacheConfig("auto", tmp_path / "file" / "cache"))

    assert isinstance(found.rows.pixels, OnTheFlyPixels)
    assert "cannot write in" in found.rows.pixels.why
    for where in ("disk", "memory", "device"):
        with pytest.raises(ResourceError, match=r"\[no-cache\]"):
            load_or_build(job_of(), CacheConfig(where, tmp_path / "file" / "cache"))


def test_without_a_chain_the_pixels_of_a_pack_are_used(cache_root):
    table = table_of()
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    named = [content_hash(b"%d" % number).hex() for number in range(12)]
    frame = table.frame.assign(sha256=named)
    packed = ImageTable(
        frame, ("a",), IMAGES.__getitem__, prepared=PixelRows.of(tensor), chain=({"use": "x"},)
    ).take(np.arange(12)[::-1])

    found = load_or_build(job_of(packed, ()), CacheConfig())

    assert job_of(packed, ()).shape == (3, 8, 8)
    assert torch.equal(pixels(found), tensor.flip(0))
    assert list(found.hashes) == named[::-1]
    assert not any(cache_root.iterdir())


def test_damaged_rows_of_a_pack_are_found(tmp_path):
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    with RowFile.create(tmp_path / "rows", {"shape": [3, 8, 8]}).writer() as writer:
        for number, row in enumerate(tensor):
            writer.append(bytes([number + 1]) * 32, row)
    rows = PixelRows(RowFile.open(tmp_path / "rows").reader(), np.arange(12))
    frame = table_of().frame
    packed = ImageTable(frame, ("a",), IMAGES.__getitem__, prepared=rows, chain=({"use": "x"},))
    load_or_build(job_of(packed, ()), CacheConfig(), verify=True)
    with (tmp_path / "rows" / "rows.bin").open("r+b") as file:
        file.seek(192 * 11)
        file.write(b"damaged")

    load_or_build(job_of(packed, ()), CacheConfig())
    with pytest.raises(DataError, match=r"row 11 is damaged; .* a pack must be written again"):
        load_or_build(job_of(packed, ()), CacheConfig(), verify=True)


def test_a_chain_starts_from_the_pixels_of_a_pack():
    table = table_of()
    rows = PixelRows.of(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous())
    named = ["00" * 31 + "01"] * 12  # of the originals, not of these pixels
    packed = ImageTable(
        table.frame.assign(sha256=named), ("a",), IMAGES.__getitem__, prepared=rows,
        chain=({"use": "x"},),
    )  # fmt: skip

    found = load_or_build(job_of(packed, (CenterCrop(size=2),)), CacheConfig())

    assert torch.equal(pixels(found), rows.gather(np.arange(12))[:, :, 3:5, 3:5])
    assert list(found.hashes) == [content_hash(one).hex() for one in IMAGES]


def test_an_experiment_configures_the_cache(spec, tmp_path, monkeypatch):
    (tmp_path / "sightx.local.toml").write_text('cache = "pixels"\n')
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    experiment = sightx.load(spec, ["execution.cache=memory", "execution.threads=3"])

    config = CacheConfig.of(experiment)

    assert (config.mode, config.threads) == ("memory", 3)
    assert config.registry is experiment.context.registry
    monkeypatch.delenv("SIGHTX_CACHE")
    assert CacheConfig.of(experiment).cache.root == tmp_path / "pixels"


def test_labels_move_to_the_positions_of_other_classes(image_table):
    table = align_classes(image_table(["1", "dog", "cat"], [0, 1, 2]), ["cat", "dog", "01", "cow"])

    assert table.classes == ("cat", "dog", "01", "cow")
    assert table.labels.tolist() == [2, 1, 0]
    other = image_table(["1", "dog", "cat"], [0, 1, 2])
    assert align_classes(other, ["cat", "1"]) is other
    assert len(align_classes(image_table(["1", "dog", "cat"], [0, 2]), ["cat", "1"])) == 2


@pytest.mark.parametrize("code", ["EIO", "EMFILE", "ENOMEM"])
@pytest.mark.parametrize("mode", ["off", "disk"])
def test_an_error_that_may_pass_is_not_a_bad_image(folders, tmp_path, monkeypatch, code, mode):
    number = getattr(errno, code)
    read = Path.read_bytes

    def failing(path):
        if path.name == "3.png":
            raise OSError(number, os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    dataset = ImageFolder(root=folders, on_bad_image="skip", bad_images_at_most=0.5)
    with pytest.raises(ResourceError, match=r"3\.png: error\[read-interrupted\]"):
        prepared(dataset, tmp_path / "bad.csv", execution={"cache": mode})
    assert not (tmp_path / "bad.csv").exists()


@pytest.mark.parametrize("name", ["a\rb", "\udcff"])
@pytest.mark.parametrize("column", ["path", "group"])
def test_names_that_no_file_of_a_run_can_hold_are_found_at_once(folders, name, column):
    class Renamed(ImageFolder):
        name = "renamed"

        def table(self):
            table = super().table()
            frame = table.frame.copy()
            frame[column] = [name, *frame[column].iloc[1:]]
            return table.with_frame(frame)

    with pytest.raises(DataError, match=rf"path-invalid\] the {column} .*; rename it"):
        load_table(Renamed(root=folders))


def test_class_names_have_no_control_characters(folders):
    (folders / "train" / "dark").rename(folders / "train" / "\x1b[31m")
    for split in ("val", "test"):
        (folders / split / "dark").rename(folders / split / "\x1b[31m")
    with pytest.raises(DataError, match="has a control character"):
        load_table(ImageFolder(root=folders))


def test_hashes_are_read_without_decoding_if_the_cache_is_off(spec, folders):
    (folders / "train" / "dark" / "0.png").write_bytes(b"not an image")
    experiment = sightx.load(spec, ["execution.cache=off"])
    table = experiment.dataset.table()

    class Refusing(Resize):
        def apply(self, image):
            raise AssertionError("an image was preprocessed")

    chain = (Refusing(size=8),)
    hashes = content_hashes(experiment.model_copy(update={"preprocess": chain}), table)
    expected = [hashlib.sha256((folders / path).read_bytes()) for path in table.frame["path"]]
    assert hashes == [digest.hexdigest() for digest in expected]
