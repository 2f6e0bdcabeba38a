from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def flat(folders: Path) -> Path:
    """A folder of two classes."""
    return folders / "train"


def test_the_spec_is_printed_and_valid(sightx, flat: Path, working_folder: Path) -> None:
    done = sightx("init", str(flat))
    assert (done.code, done.err) == (0, "")
    assert f'root = "{working_folder / "data" / "train"}"' in done.out
    (working_folder / "a.toml").write_text(done.out)
    assert sightx("validate", "a.toml").code == 0


def test_paths_are_relative_to_the_file_that_is_written(
    sightx, flat: Path, working_folder: Path
) -> None:
    (working_folder / "specs").mkdir()
    done = sightx("init", "data/train", "--output", "specs/a.toml")
    assert (done.code, done.out) == (0, "")
    assert done.lines == ["specs/a.toml: written; next: sightx run specs/a.toml"]
    assert 'root = "../data/train"' in (working_folder / "specs" / "a.toml").read_text()
    sets = ["--set", "training.epochs=1", "--set", "execution.device=cpu"]
    assert sightx("run", "specs/a.toml", "--quiet", *sets).code == 0


def test_nothing_is_overwritten(sightx, flat: Path, working_folder: Path) -> None:
    (working_folder / "a.toml").write_text("mine")
    done = sightx("init", str(flat), "--output", "a.toml")
    assert (done.code, done.out) == (2, "")
    assert done.lines == ["error[exists] a.toml exists; give another --output"]
    assert (working_folder / "a.toml").read_text() == "mine"


def test_a_missing_folder_exits_with_2(sightx, flat: Path) -> None:
    done = sightx("init", str(flat), "--output", "no/a.toml")
    assert (done.code, done.lines) == (2, ["error[usage] no is not a folder; create it first"])


def test_unusable_data_exit_with_3_and_leave_no_file(sightx, working_folder: Path) -> None:
    (working_folder / "empty").mkdir()
    done = sightx("init", "empty", "--output", "a.toml")
    assert (done.code, done.out) == (3, "")
    assert done.lines[0].startswith("empty: error[no-classes] ")
    assert not (working_folder / "a.toml").exists()
