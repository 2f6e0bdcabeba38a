"""A folder that is whole or not there, and the spec that lies in it."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

import sightx
from sightx import SpecError
from sightx.export import delivery
from sightx.export.delivery import atomic_export

HEIR = """
extends = "spec.toml"
[split]
use = "listed"
file = "split.csv"
[[metric]]
use = "recall"
"""


def test_files_come_when_all_are_written(tmp_path):
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


def test_two_do_not_write_one_folder(tmp_path):
    folder = tmp_path / "a"
    with atomic_export(folder, "last") as writing:
        (writing / "last").write_text("of the first")
        with (
            pytest.raises(SpecError, match=rf"exists\] pid {os.getpid()} .* is writing {folder}"),
            atomic_export(folder, "last"),
        ):
            pytest.fail("it was opened")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"last": "of the first"}


def test_what_a_dead_process_has_left_is_removed(tmp_path):
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "half").touch()
    (tmp_path / ".writing.lock").write_text("")
    with atomic_export(tmp_path, "last") as writing:
        (writing / "last").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SpecError, match=r"mine.txt"), atomic_export(tmp_path, "last"):
        pytest.fail("it was opened")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_spec_is_its_authors_with_another_dataset(spec, folders, write_spec, tmp_path):
    (folders.parent / "split.csv").write_text("path,split\n")
    heir = write_spec(HEIR, "heir.toml")
    options = ["training.epochs=7", 'optimizer={ use = "sgd", lr = 0.5 }']
    before = sightx.load(heir, options)
    text = delivery.export_spec(before, {"use": "image-folder", "root": str(folders)})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "spec.toml").write_text(text)
    after = sightx.load(tmp_path / "elsewhere" / "spec.toml")
    assert after.id == before.id
    assert after == before
    assert "extends" not in text
    assert "scheduler" not in text  # nobody wrote one
    assert "balanced" not in text

    prepared = delivery.export_spec(before, {"use": "image-folder", "root": "x"}, prepared=True)
    assert "preprocess" in text
    assert "preprocess" not in prepared


def test_what_is_said_of_bad_images_goes_on(spec, folders):
    plain = sightx.load(spec)
    words = ('decode="exact"', 'on_bad_image="skip"', "bad_images_at_most=0.5")
    said = sightx.load(spec, [f"dataset.{word}" for word in words])
    shared = {"on_bad_image": "skip", "bad_images_at_most": 0.5}
    for use, more in (("shards", {"decode": "exact"}), ("packed", {})):  # a pack is decoded already
        before = delivery.dataset_table(plain, plain.dataset.table(), use)
        assert delivery.dataset_table(said, said.dataset.table(), use) == {
            **before,
            **shared,
            **more,
        }


def test_what_a_machine_says_for_itself_stays_there(spec, folders, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.sightx]\n")
    (tmp_path / "sightx.local.toml").write_text('[execution]\ndevice = "cpu"\n')
    experiment = sightx.load(spec)
    assert experiment.execution.device == "cpu"
    assert "cpu" not in delivery.export_spec(experiment, {"use": "image-folder", "root": "x"})


def test_an_experiment_without_a_file_is_written_whole(spec, folders):
    made = sightx.Experiment(**dict(sightx.load(spec)))
    assert made.context.path is None
    text = delivery.export_spec(made, {"use": "image-folder", "root": str(folders)})
    spec.write_text(text)
    assert sightx.load(spec) == made
