from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from sightx.io.files import file_reader
from sightx.records.pixels import PixelRows
from sightx.records.table import ImageTable

FRAME = pd.DataFrame(
    {
        "path": ["a", "b", "c", "d"],
        "label": [0, 2, 2, 0],
        "group": ["p", "", "p", "b"],
        "line": [2, 3, 5, 6],
    }
)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


@pytest.fixture
def table():
    return ImageTable(FRAME, ("x", "y", "z"), IMAGES.__getitem__)


def test_a_table_counts_labels_groups_and_lines(table):
    assert len(table) == 4
    assert table.labels.tolist() == [0, 2, 2, 0]
    assert table.labels.dtype == np.int64
    assert table.counts() == [2, 0, 2]
    assert table.counts(np.array([1, 2, 3])) == [1, 0, 2]
    assert table.line(2) == 5


def test_a_sample_without_a_group_is_alone_in_its_group(table):
    groups = table.groups

    assert groups[0] == groups[2]
    assert len(set(groups)) == 3  # the sample b is not in the group b


def test_take_keeps_rows_and_images_together(table):
    taken = table.take(np.array([3, 1, 2])).take(np.array([2, 0]))

    assert taken.frame["path"].tolist() == ["c", "d"]
    assert np.array_equal(taken.read(0), IMAGES[2])
    assert np.array_equal(taken.read(1), IMAGES[3])
    assert taken.frame.index.tolist() == [0, 1]


def test_without_remembers_why(table):
    left = table.without({"a": "blurred"}).without({"c": "cut"})

    assert left.frame["path"].tolist() == ["b", "d"]
    assert np.array_equal(left.read(1), IMAGES[3])
    assert left.skipped == {"a": "blurred", "c": "cut"}
    assert table.skipped == {}


def test_pixels_that_were_prepared_go_with_their_rows(table):
    rows = PixelRows.of(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    hashes = [f"{number:064x}" for number in range(1, 5)]
    named = table.with_frame(FRAME.assign(sha256=hashes))
    packed = replace(named, prepared=rows, chain=({"use": "resize"},))

    left = packed.without({"b": "blurred"}).take(np.array([2, 0]))

    assert left.shape == (3, 5, 6)
    assert torch.equal(left.prepared.gather(np.arange(2)), rows.gather(np.array([3, 0])))
    assert list(named.hashes) == hashes
    assert packed.hashes is table.hashes is None  # what was read is not what was hashed
    assert table.shape is None
    assert table.without({}) is table


def test_a_table_knows_its_files_where_they_are_read_as_they_are(tmp_path):
    table = ImageTable(FRAME, ("x", "y", "z"), file_reader(tmp_path, ["d", "c", "b", "a"]))

    taken = table.take(np.array([3, 0, 1])).take(np.array([2, 0]))

    assert (taken.files.root, list(taken.files.paths)) == (os.path.realpath(tmp_path), ["c", "a"])
    assert replace(table, read=IMAGES.__getitem__).files is None
    assert replace(table, frame=FRAME[:3]).files is None
