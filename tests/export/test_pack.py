"""Packs: complete, damaged, and described wrongly by a spec."""

from __future__ import annotations

import json
from multiprocessing.reduction import ForkingPickler
from pickle import loads

import numpy as np
import pytest

import sightx
from sightx import DataError
from sightx.export.pack import write_pack
from sightx.io import system
from sightx.plugin import Traits, as_torch_dataset, table_from_pack

TRAITS = Traits(("dark", "light"), has_split=True, shape=(3, 8, 8))


@pytest.fixture
def original(spec):
    return sightx.load(spec).dataset.table()


@pytest.fixture
def pack(spec, folders, tmp_path):
    """48 images, two of them with the same bytes."""
    first = folders / "train" / "dark" / "0.png"
    (folders / "train" / "dark" / "1.png").write_bytes(first.read_bytes())
    write_pack(sightx.load(spec), tmp_path / "pack", tmp_path / "bad.csv")
    return tmp_path / "pack"


def problem(pack, traits=TRAITS):
    with pytest.raises(DataError) as caught:
        table_from_pack(pack, traits)
    (found,) = caught.value.problems
    assert found.file.startswith(str(pack))
    return found


def test_the_table_is_the_one_that_was_packed(pack, original):
    table = table_from_pack(pack, TRAITS)
    columns = ["path", "label", "group", "split"]
    assert table.frame[columns].equals(original.frame[columns])
    assert (table.shape, table.root, table.classes) == ((3, 8, 8), None, ("dark", "light"))
    rows = table.prepared.gather(np.arange(48))
    for index in range(48):  # 8 x 8 already, so that the chain changes no pixel
        image, label = as_torch_dataset(original)[index]
        assert image.equal(rows[index])
        assert (table.read(index) == image.movedim(0, -1).numpy()).all()
        assert as_torch_dataset(table)[index][1] == label
    assert (pack / "pixels" / "rows.bin").stat().st_size == 47 * 3 * 8 * 8  # one row per content


def test_the_table_can_be_sent_to_other_processes(pack):
    table = table_from_pack(pack, TRAITS)
    sent = loads(bytes(ForkingPickler.dumps(table)))
    assert sent.prepared.pixels.file == table.prepared.pixels.file
    for index in (0, 1, 47):
        assert (sent.read(index) == table.read(index)).all()


def test_a_damaged_row_is_an_error_when_it_is_read(pack):  # D15
    path = pack / "pixels" / "rows.bin"
    raw = bytearray(path.read_bytes())
    raw[20 * 192] ^= 1
    path.write_bytes(raw)
    table = table_from_pack(pack, TRAITS)
    index = next(i for i in range(48) if table.prepared.index[i] == 20)
    with pytest.raises(DataError, match=r"rows\.bin.*row 20 is damaged"):
        table.read(index)


def test_a_truncated_pack(pack):
    path = pack / "pixels" / "rows.bin"
    path.write_bytes(path.read_bytes()[: 40 * 192])
    found = problem(pack)
    assert (found.code, found.message.split("' ")[1]) == ("not-as-written", "has no pixels")
    (pack / "pixels" / "about.json").unlink()
    assert problem(pack).code == "bad-cache"


def test_missing_files_are_named(pack):
    for name in ("index.csv", "pack.json"):
        (pack / name).rename(pack / "away")
        found = problem(pack)
        assert (found.code, found.file) == ("missing-data", str(pack))
        assert name in found.message
        assert "sightx prepare SPEC --pack DIR" in found.hint
        (pack / "away").rename(pack / name)
    description = json.loads((pack / "pack.json").read_text())
    (pack / "pack.json").write_text(json.dumps({**description, "format": 7}))
    assert "format" in problem(pack).message


def test_a_spec_must_agree_with_the_pack(pack):
    found = problem(pack, Traits(("dark", "light"), has_split=True, shape=(1, 8, 8)))
    assert (found.code, found.path) == ("other-traits", "dataset.shape")
    assert found.hint == "shape = [3, 8, 8]"


def test_pixels_that_do_not_fit_in_memory_are_packed(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(system, "total_memory", lambda: 1000)
    experiment = sightx.load(spec, ['execution.cache="memory"'])
    write_pack(experiment, tmp_path / "large", tmp_path / "bad.csv")
    assert len(table_from_pack(tmp_path / "large", TRAITS)) == 48
