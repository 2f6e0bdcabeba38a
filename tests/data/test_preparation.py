from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import sightx
from sightx.builtin.prepare import CenterCrop, Resize
from sightx.data.known import files
from sightx.data.ondisk import OnDisk
from sightx.data.pixels import digest
from sightx.data.preparation import Source, Storage, obtain
from sightx.data.residence import Live
from sightx.data.rows import Rows
from sightx.data.shelf import Shelf
from sightx.data.table import ImageTable
from sightx.errors import DataError, ResourceError

CHAIN = (Resize(size=4),)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def table_of(read=IMAGES.__getitem__):
    frame = pd.DataFrame({"path": [f"{i}" for i in range(12)], "label": 0, "group": ""})
    return ImageTable(frame, ("a",), read)


def source_of(table=None, chain=CHAIN):
    table = table or table_of()
    return Source(table, files(table), chain)


def pixels(prepared):
    return prepared.rows.gather(np.arange(12))


def test_off_gives_the_same_pixels_and_keeps_nothing(store):
    heard = []
    kept = obtain(source_of(), Storage("disk"))
    before = sorted(store.rglob("*"))

    live = obtain(source_of(), Storage("off"), 2, lambda *said: heard.append(said))

    assert isinstance(live.rows.pixels, Live)
    assert isinstance(kept.rows.pixels, OnDisk)
    assert torch.equal(pixels(live), pixels(kept))
    assert list(live.digests) == list(kept.digests) == [digest(one).hex() for one in IMAGES]
    assert heard == [(n, 12) for n in range(1, 13)]
    assert sorted(store.rglob("*")) == before


def test_off_still_finds_every_bad_image_first():
    def read(index):
        return b"<html>" if index == 5 else IMAGES[index]

    assert obtain(source_of(table_of(read)), Storage("off")).bad == {5: "not an image"}


def test_where_no_store_can_be_auto_goes_without(tmp_path):
    (tmp_path / "file").touch()

    found = obtain(source_of(), Storage("auto", tmp_path / "file" / "store"))

    assert isinstance(found.rows.pixels, Live)
    assert "cannot write prepared pixels" in found.rows.pixels.why
    for where in ("disk", "memory", "device"):
        with pytest.raises(ResourceError, match=r"\[no-store\]"):
            obtain(source_of(), Storage(where, tmp_path / "file" / "store"))


def test_without_a_chain_rows_that_were_prepared_before_are_used(store):
    table = table_of()
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    named = [digest(b"%d" % number).hex() for number in range(12)]
    frame = table.frame.assign(digest=named)
    packed = ImageTable(
        frame, ("a",), IMAGES.__getitem__, prepared=Rows.of(tensor), chain=({"use": "x"},)
    ).take(np.arange(12)[::-1])

    found = obtain(source_of(packed, ()), Storage())

    assert source_of(packed, ()).shape == (3, 8, 8)
    assert torch.equal(pixels(found), tensor.flip(0))
    assert list(found.digests) == named[::-1]
    assert not any(store.iterdir())


def test_damaged_rows_of_a_dataset_are_found(tmp_path):
    tensor = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    with Shelf.create(tmp_path / "shelf", {"shape": [3, 8, 8]}).filling() as filling:
        for number, row in enumerate(tensor):
            filling.append(bytes([number + 1]) * 32, row)
    rows = Rows(Shelf.open(tmp_path / "shelf").pixels(), np.arange(12))
    frame = table_of().frame
    packed = ImageTable(frame, ("a",), IMAGES.__getitem__, prepared=rows, chain=({"use": "x"},))
    obtain(source_of(packed, ()), Storage(), verify=True)
    with (tmp_path / "shelf" / "rows.bin").open("r+b") as file:
        file.seek(192 * 11)
        file.write(b"damaged")

    obtain(source_of(packed, ()), Storage())
    with pytest.raises(DataError, match=r"row 11 is damaged; .* a pack must be written again"):
        obtain(source_of(packed, ()), Storage(), verify=True)


def test_with_a_chain_they_are_what_it_begins_with():
    table = table_of()
    rows = Rows.of(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous())
    named = ["00" * 31 + "01"] * 12  # of what they were made of: no word on these pixels
    packed = ImageTable(
        table.frame.assign(digest=named), ("a",), IMAGES.__getitem__, prepared=rows,
        chain=({"use": "x"},),
    )  # fmt: skip

    found = obtain(source_of(packed, (CenterCrop(size=2),)), Storage())

    assert torch.equal(pixels(found), rows.gather(np.arange(12))[:, :, 3:5, 3:5])
    assert list(found.digests) == [digest(one).hex() for one in IMAGES]


def test_an_experiment_says_where(spec, tmp_path, monkeypatch):
    (tmp_path / "sightx.local.toml").write_text('store = "pixels"\n')
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    experiment = sightx.load(spec, ["execution.store=memory"])

    found = Storage.of(experiment, torch.device("cpu"))

    assert (found.where, found.device) == ("memory", torch.device("cpu"))
    assert found.registry is experiment.origin.registry
    assert Storage.of(experiment).insisting().where == "disk"
    monkeypatch.delenv("SIGHTX_STORE")
    assert Storage.of(experiment).store.root == tmp_path / "pixels"
