from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import sightx
from sightx.builtin.preprocess import CenterCrop, Resize
from sightx.data.cache.hashes import stat_files
from sightx.data.cache.placement import OnTheFlyPixels
from sightx.data.cache.row_file import RowFile
from sightx.data.cache.row_reader import RowReader
from sightx.data.preparation import CacheConfig, PreprocessJob, load_or_build
from sightx.data.preprocess import content_hash
from sightx.errors import DataError, ResourceError
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable

CHAIN = (Resize(size=4),)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def table_of(read=IMAGES.__getitem__):
    frame = pd.DataFrame({"path": [f"{i}" for i in range(12)], "label": 0, "group": ""})
    return ImageTable(frame, ("a",), read)


def source_of(table=None, chain=CHAIN):
    table = table or table_of()
    return PreprocessJob(table, stat_files(table), chain)


def pixels(prepared):
    return prepared.rows.gather(np.arange(12))


def test_off_gives_the_same_pixels_and_keeps_nothing(store):
    heard = []
    kept = load_or_build(source_of(), CacheConfig("disk"))
    before = sorted(store.rglob("*"))

    live = load_or_build(source_of(), CacheConfig("off"), 2, lambda *said: heard.append(said))

    assert isinstance(live.rows.pixels, OnTheFlyPixels)
    assert isinstance(kept.rows.pixels, RowReader)
    assert torch.equal(pixels(live), pixels(kept))
    assert list(live.digests) == list(kept.digests) == [content_hash(one).hex() for one in IMAGES]
    assert heard == [(n, 12) for n in range(1, 13)]
    assert sorted(store.rglob("*")) == before


def test_off_still_finds_every_bad_image_first():
    def read(index):
        return b"<html>" if index == 5 else IMAGES[index]

    assert load_or_build(source_of(table_of(read)), CacheConfig("off")).bad == {5: "not an image"}


def test_where_no_store_can_be_auto_goes_without(tmp_path):
    (tmp_path / "file").touch()

    found = load_or_build(source_of(), CacheConfig("auto", tmp_path / "file" / "store"))

    assert isinstance(found.rows.pixels, OnTheFlyPixels)
    assert "cannot write prepared pixels" in found.rows.pixels.why
    for where in ("disk", "memory", "device"):
        with pytest.raises(ResourceError, match=r"\[no-cache\]"):
            load_or_build(source_of(), CacheConfig(where, tmp_path / "file" / "store"))


def test_without_a_chain_rows_that_were_prepared_before_are_used(store):
    table = table_of()
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    named = [content_hash(b"%d" % number).hex() for number in range(12)]
    frame = table.frame.assign(sha256=named)
    packed = ImageTable(
        frame, ("a",), IMAGES.__getitem__, prepared=PixelRows.of(tensor), chain=({"use": "x"},)
    ).take(np.arange(12)[::-1])

    found = load_or_build(source_of(packed, ()), CacheConfig())

    assert source_of(packed, ()).shape == (3, 8, 8)
    assert torch.equal(pixels(found), tensor.flip(0))
    assert list(found.digests) == named[::-1]
    assert not any(store.iterdir())


def test_damaged_rows_of_a_dataset_are_found(tmp_path):
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    with RowFile.create(tmp_path / "shelf", {"shape": [3, 8, 8]}).filling() as filling:
        for number, row in enumerate(tensor):
            filling.append(bytes([number + 1]) * 32, row)
    rows = PixelRows(RowFile.open(tmp_path / "shelf").pixels(), np.arange(12))
    frame = table_of().frame
    packed = ImageTable(frame, ("a",), IMAGES.__getitem__, prepared=rows, chain=({"use": "x"},))
    load_or_build(source_of(packed, ()), CacheConfig(), verify=True)
    with (tmp_path / "shelf" / "rows.bin").open("r+b") as file:
        file.seek(192 * 11)
        file.write(b"damaged")

    load_or_build(source_of(packed, ()), CacheConfig())
    with pytest.raises(DataError, match=r"row 11 is damaged; .* a pack must be written again"):
        load_or_build(source_of(packed, ()), CacheConfig(), verify=True)


def test_with_a_chain_they_are_what_it_begins_with():
    table = table_of()
    rows = PixelRows.of(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous())
    named = ["00" * 31 + "01"] * 12  # of what they were made of: no word on these pixels
    packed = ImageTable(
        table.frame.assign(sha256=named), ("a",), IMAGES.__getitem__, prepared=rows,
        chain=({"use": "x"},),
    )  # fmt: skip

    found = load_or_build(source_of(packed, (CenterCrop(size=2),)), CacheConfig())

    assert torch.equal(pixels(found), rows.gather(np.arange(12))[:, :, 3:5, 3:5])
    assert list(found.digests) == [content_hash(one).hex() for one in IMAGES]


def test_an_experiment_says_where(spec, tmp_path, monkeypatch):
    (tmp_path / "sightx.local.toml").write_text('cache = "pixels"\n')
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    experiment = sightx.load(spec, ["execution.cache=memory"])

    found = CacheConfig.of(experiment, torch.device("cpu"))

    assert (found.where, found.device) == ("memory", torch.device("cpu"))
    assert found.registry is experiment.context.registry
    assert CacheConfig.of(experiment).insisting().where == "disk"
    monkeypatch.delenv("SIGHTX_CACHE")
    assert CacheConfig.of(experiment).store.root == tmp_path / "pixels"
