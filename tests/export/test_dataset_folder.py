"""The folder of an exported dataset: complete or empty, with an index, a description and a spec."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sightx
from sightx import DataError, ResourceError, SpecError
from sightx.export.dataset_folder import (
    Description,
    atomic_export,
    check_traits,
    dataset_table,
    export_spec,
    index_frame,
    read_description,
    read_index,
    write_description,
    write_metadata,
)
from sightx.export.storage import Storage
from sightx.plugin import ImageTable, Traits
from sightx.records.pixels import PixelRows

CHILD = """
extends = "spec.toml"
[split]
use = "listed"
file = "split.csv"
[[metric]]
use = "recall"
"""


def test_files_appear_when_all_are_written(tmp_path):
    folder = tmp_path / "a" / "b"
    with atomic_export(folder, "last.json") as writing:
        (writing / "z.bin").write_text("z")
        (writing / "last.json").write_text("{}")
        (writing / "inner").mkdir()
        (writing / "inner" / "x").write_text("x")
        assert not (folder / "last.json").exists()
    assert sorted(p.name for p in folder.iterdir()) == ["inner", "last.json", "z.bin"]
    assert (folder / "inner" / "x").read_text() == "x"


def test_an_error_leaves_nothing(tmp_path):
    with suppress(ZeroDivisionError), atomic_export(tmp_path / "a", "last") as writing:
        (writing / "half").write_text("half")
        assert 1 / 0
    assert list((tmp_path / "a").iterdir()) == []


def test_two_processes_do_not_write_one_folder(tmp_path):
    folder = tmp_path / "a"
    with atomic_export(folder, "last") as writing:
        (writing / "last").write_text("first")
        with (
            pytest.raises(SpecError, match=rf"exists\] pid {os.getpid()} .* is writing {folder}"),
            atomic_export(folder, "last"),
        ):
            pytest.fail("the body must not run")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"last": "first"}


def test_the_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "half").touch()
    (tmp_path / ".writing.lock").write_text("")
    with atomic_export(tmp_path, "last") as writing:
        (writing / "last").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def export_little(folder):
    """Export three files and a folder of rows."""
    with atomic_export(folder, "pack.json") as writing:
        for name in ("index.csv", "pack.json", "spec.toml"):
            (writing / name).write_text(name)
        (writing / "pixels").mkdir()
        for name in ("about.json", "rows.bin", "index.bin"):
            (writing / "pixels" / name).write_text(name)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("how", ["die", "die after", "ENOSPC"])
def test_a_killed_export_does_not_block_the_next_one(tmp_path, faulty, how):
    points, status, complete = 0, -1, 0
    while status:
        folder = tmp_path / str(points)
        points += 1
        status = faulty(lambda folder=folder: export_little(folder), points, how)
        if (folder / "pack.json").exists():
            complete += 1
            continue
        export_little(folder)
        names = {path.name for path in folder.iterdir()}
        assert names == {"index.csv", "pack.json", "spec.toml", "pixels"}
    assert points > 6
    assert complete < points - 3


@pytest.mark.parametrize(
    "name", ["mine.txt", ".writing/mine.txt", ".writing.lock", "index.csv", "pixels/rows.bin"]
)
def test_a_folder_with_other_files_is_refused(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with (
        pytest.raises(SpecError, match=re.escape(name.partition("/")[0])),
        atomic_export(tmp_path, "last"),
    ):
        pytest.fail("the body must not run")
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]


def test_files_that_a_killed_process_did_not_move_stay(tmp_path):
    record = {"pid": 1, "host": "x", "since": "now", "moving": ["index.csv", "../a", "pixels"]}
    (tmp_path / "b" / "pixels").mkdir(parents=True)
    (tmp_path / "b" / ".writing.lock").write_text(json.dumps(record))
    (tmp_path / "b" / "pixels" / "mine.txt").write_text("mine")
    (tmp_path / "a").write_text("mine")

    with pytest.raises(ResourceError, match="not empty"), atomic_export(tmp_path / "b", "last"):
        pytest.fail("the body must not run")

    assert (tmp_path / "a").read_text() == "mine"
    assert (tmp_path / "b" / "pixels" / "mine.txt").read_text() == "mine"


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(ResourceError, match=r"no locks .*; choose a folder on another disk"),
        atomic_export(tmp_path / "a", "last"),
    ):
        pytest.fail("the body must not run")


def test_the_spec_is_the_original_one_with_another_dataset(spec, folders, write_spec, tmp_path):
    (folders.parent / "split.csv").write_text("path,split\n")
    child = write_spec(CHILD, "child.toml")
    options = ["training.epochs=7", 'optimizer={ use = "sgd", lr = 0.5 }']
    before = sightx.load(child, options)
    text = export_spec(before, {"use": "image-folder", "root": str(folders)})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "spec.toml").write_text(text)
    after = sightx.load(tmp_path / "elsewhere" / "spec.toml")
    assert after.id == before.id
    assert after == before
    assert "extends" not in text
    assert "scheduler" not in text  # the spec does not set one
    assert "balanced" not in text

    without = export_spec(before, {"use": "image-folder", "root": "x"}, preprocessed=True)
    assert "preprocess" in text
    assert "preprocess" not in without


def test_the_settings_for_bad_images_are_kept(spec, folders):
    plain = sightx.load(spec)
    settings = ('decode="exact"', 'on_bad_image="skip"', "bad_images_at_most=0.5")
    changed = sightx.load(spec, [f"dataset.{setting}" for setting in settings])
    shared = {"on_bad_image": "skip", "bad_images_at_most": 0.5}
    for use, decode in (
        ("shards", {"decode": "exact"}),
        ("packed", {}),
    ):  # a pack is decoded already
        before = dataset_table(plain, plain.dataset.table(), use)
        assert dataset_table(changed, changed.dataset.table(), use) == {
            **before,
            **shared,
            **decode,
        }


def test_local_settings_are_not_exported(spec, folders, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    (tmp_path / "sightx.local.toml").write_text('[execution]\ndevice = "cpu"\n')
    experiment = sightx.load(spec)
    assert experiment.execution.device == "cpu"
    assert "cpu" not in export_spec(experiment, {"use": "image-folder", "root": "x"})


def test_an_experiment_without_a_file_is_written_completely(spec, folders):
    built = sightx.Experiment(**dict(sightx.load(spec)))
    assert built.context.path is None
    text = export_spec(built, {"use": "image-folder", "root": str(folders)})
    spec.write_text(text)
    assert sightx.load(spec) == built


HASHES = [f"{number:064x}" for number in range(3)]
DESCRIPTION = Description(classes=("a, b", 'the "c"'), ordered=False, samples=3)


@pytest.fixture
def table():
    columns = {
        "path": ["x/1.png", "NA", 'a comma, "quotes"\n.png'],
        "label": np.array([1, 0, 1]),
        "group": ["", "007", "null"],
        "line": [2, 3, 4],
    }
    return ImageTable(pd.DataFrame(columns), DESCRIPTION.classes, lambda index: b"")


def write_index(table, folder, columns):
    write_metadata(folder, table, columns, spec="")


def index_of(folder, description, columns=()):
    return read_index(Storage(str(folder)), description, "", columns)


def test_what_is_written_is_read(table, tmp_path):
    for split in ([], ["train", "", "test"]):
        written = table.with_frame(table.frame.assign(split=split)) if split else table
        write_index(written, tmp_path, pd.DataFrame({"sha256": HASHES}))
        frame = index_frame(index_of(tmp_path, DESCRIPTION))
        for column in written.frame:
            assert frame[column].tolist() == written.frame[column].tolist()
        assert ("split" in frame) == bool(split)
        assert frame["sha256"].tolist() == HASHES
        assert frame["label"].dtype == np.int64


def test_classes_may_be_numbers(table, tmp_path):
    classes = ("0", "1.5", "10")
    written = replace(table, frame=table.frame.assign(label=[2, 0, 1]), classes=classes)
    write_index(written, tmp_path, pd.DataFrame({"sha256": HASHES}))
    description = Description(classes=classes, ordered=True, samples=3)
    assert index_of(tmp_path, description)["label"].tolist() == [2, 0, 1]


def test_many_rows_are_read_in_order(tmp_path):
    count = 20_000
    frame = pd.DataFrame({"path": [str(n) for n in range(count)], "label": 0, "group": ""})
    table = ImageTable(frame, ("a", "b"), lambda index: b"")
    columns = pd.DataFrame({"sha256": "0" * 64, "offset": np.arange(count) * 10**9, "size": 1})
    write_index(table, tmp_path, columns)
    description = Description(classes=("a", "b"), ordered=True, samples=count)
    rows = index_of(tmp_path, description, ("offset", "size"))
    assert rows["offset"].tolist() == [n * 10**9 for n in range(count)]
    assert rows["line"].iat[-1] == count + 1


def test_a_description_must_be_valid(tmp_path):
    storage, text = Storage(str(tmp_path)), DESCRIPTION.model_dump_json()
    write_description(tmp_path / "x.json", DESCRIPTION)
    assert read_description(Description, storage, "x.json", "") == DESCRIPTION
    for wrong in ("", "[]", text.replace("1", "2"), text.replace("3", '"3"'), text[:-9]):
        (tmp_path / "x.json").write_text(wrong)
        with pytest.raises(DataError, match=r"x.json: error\[not-as-written\] is not valid"):
            read_description(Description, storage, "x.json", "")


@pytest.mark.parametrize(
    ("stated", "line"),
    [
        (Traits(("c", "d")), 'dataset.classes: is not what was written; classes = ["a", "b"]'),
        (Traits(("b", "a")), 'dataset.classes: is not what was written; classes = ["a", "b"]'),
        (Traits(ordered=True), "dataset.ordered: is not what was written; ordered = false"),
        (Traits(has_groups=True), "dataset.groups: is not what was written; groups = false"),
        (Traits(has_split=True), "dataset.split: is not what was written; split = false"),
        (Traits(shape=(3, 4, 5)), "dataset.shape: is not what was written; shape = [3, 5, 4]"),
    ],
)
def test_a_spec_must_agree_with_the_data(stated, line):
    import torch

    frame = pd.DataFrame({"path": ["x"], "label": [0], "group": [""]})
    rows = PixelRows.of(torch.zeros((1, 3, 5, 4), dtype=torch.uint8))
    table = ImageTable(frame, ("a", "b"), lambda index: b"", prepared=rows)
    actual = Traits(shape=(3, 5, 4))
    assert check_traits(table, actual) is table
    assert check_traits(table, Traits(("a", "b"), shape=(3, 5, 4))) is table
    merged = {**vars(actual), **{k: v for k, v in vars(stated).items() if v}}
    with pytest.raises(DataError) as caught:
        check_traits(table, Traits(**merged))
    assert str(caught.value).endswith(line)
