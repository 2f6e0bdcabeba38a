"""An index of samples: what is written is read, and a spec must say the truth of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sightx import DataError
from sightx.export.index import (
    Description,
    check_traits,
    index_frame,
    read_description,
    read_index,
    write_index,
)
from sightx.plugin import ImageTable, Traits
from sightx.records.pixels import PixelRows

HASHES = [f"{number:064x}" for number in range(3)]
DESCRIBED = Description(classes=("a, b", 'the "c"'), ordered=False, samples=3)


@pytest.fixture
def table():
    columns = {
        "path": ["x/1.png", "NA", 'odd,"name"\n.png'],
        "label": np.array([1, 0, 1]),
        "group": ["", "007", "null"],
        "line": [2, 3, 4],
    }
    return ImageTable(pd.DataFrame(columns), DESCRIBED.classes, lambda index: b"")


def test_what_is_written_is_read(table, tmp_path):
    path = tmp_path / "index.csv"
    for split in ([], ["train", "", "test"]):
        written = table.with_frame(table.frame.assign(split=split)) if split else table
        write_index(path, written, pd.DataFrame({"sha256": HASHES}))
        frame = index_frame(read_index(path.read_bytes(), DESCRIBED, (), "index.csv"))
        for column in written.frame:
            assert frame[column].tolist() == written.frame[column].tolist()
        assert ("split" in frame) == bool(split)
        assert frame["sha256"].tolist() == HASHES
        assert frame["label"].dtype == np.int64


def test_a_million_rows_are_read_in_their_order(tmp_path):  # and not by way of Python's lists
    count = 20_000
    frame = pd.DataFrame({"path": [str(n) for n in range(count)], "label": 0, "group": ""})
    table = ImageTable(frame, ("a", "b"), lambda index: b"")
    columns = pd.DataFrame({"sha256": "0" * 64, "offset": np.arange(count) * 10**9, "size": 1})
    write_index(tmp_path / "index.csv", table, columns)
    described = Description(classes=("a", "b"), ordered=True, samples=count)
    content = (tmp_path / "index.csv").read_bytes()
    cells = read_index(content, described, ("offset", "size"), "index.csv")
    assert cells["offset"].tolist() == [n * 10**9 for n in range(count)]
    assert cells["line"].iat[-1] == count + 1


def test_a_description_comes_from_json_alone():
    text = DESCRIBED.model_dump_json()
    assert read_description(Description, text.encode(), "x.json") == DESCRIBED
    for wrong in ("", "[]", text.replace("1", "2"), text.replace("3", '"3"'), text[:-9]):
        with pytest.raises(DataError, match=r"x.json: error\[not-as-written\] is no description"):
            read_description(Description, wrong.encode(), "x.json")


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (Traits(("c", "d")), 'dataset.classes: is not what was written; classes = ["a", "b"]'),
        (Traits(("b", "a")), 'dataset.classes: is not what was written; classes = ["a", "b"]'),
        (Traits(ordered=True), "dataset.ordered: is not what was written; ordered = false"),
        (Traits(has_groups=True), "dataset.groups: is not what was written; groups = false"),
        (Traits(has_split=True), "dataset.split: is not what was written; split = false"),
        (Traits(shape=(3, 4, 5)), "dataset.shape: is not what was written; shape = [3, 5, 4]"),
    ],
)
def test_a_spec_must_say_the_truth(said, line):
    import torch

    frame = pd.DataFrame({"path": ["x"], "label": [0], "group": [""]})
    rows = PixelRows.of(torch.zeros((1, 3, 5, 4), dtype=torch.uint8))
    table = ImageTable(frame, ("a", "b"), lambda index: b"", prepared=rows)
    true = Traits(shape=(3, 5, 4))
    assert check_traits(table, true) is table
    assert check_traits(table, Traits(("a", "b"), shape=(3, 5, 4))) is table
    merged = {**vars(true), **{k: v for k, v in vars(said).items() if v}}
    with pytest.raises(DataError) as caught:
        check_traits(table, Traits(**merged))
    assert str(caught.value).endswith(line)
