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


SHORT = ["--set", "training.epochs=1", "--set", "execution.device=cpu"]


def test_the_copy_of_the_spec_in_a_run_means_the_same_data(
    sightx, flat: Path, working_folder: Path
) -> None:
    (working_folder / "specs").mkdir()
    done = sightx("init", "specs/../data/train", "--output", "specs/a.toml")
    assert (done.code, done.out) == (0, "")
    assert done.lines == ["specs/a.toml: written; next: sightx run specs/a.toml"]
    root = working_folder / "data" / "train"
    assert f'root = "{root}"' in (working_folder / "specs" / "a.toml").read_text()
    assert sightx("run", "specs/a.toml", "--quiet", *SHORT).code == 0
    (copy,) = (working_folder / "runs").glob("*/spec.toml")
    assert sightx("validate", "--deep", str(copy)).code == 0


def test_a_root_below_a_place_of_the_project_is_written_as_that_place(
    sightx, flat: Path, working_folder: Path
) -> None:
    (working_folder / "pyproject.toml").write_text("[tool.sightx]\n")
    (working_folder / "sightx.local.toml").write_text('[places]\npictures = "data"\n')
    assert sightx("init", "data/train", "--output", "a.toml").code == 0
    assert 'root = "@pictures/train"' in (working_folder / "a.toml").read_text()
    assert sightx("validate", "--deep", "a.toml").code == 0
    (working_folder / "other").mkdir()
    printed = sightx("init", "data/train").out  # it may be saved outside the project
    assert f'root = "{flat}"' in printed


def test_init_validate_and_run_show_what_is_not_used_and_what_is_doubtful(
    sightx, flat: Path, working_folder: Path
) -> None:
    (flat / "__MACOSX").mkdir()
    (flat / "dark" / "notes.txt").write_text("")
    (flat / "dark" / "masks").mkdir()
    (flat / "dark" / "masks" / "0.png").write_bytes((flat / "dark" / "1.png").read_bytes())
    (flat / "light" / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 20)
    unused = [
        "not used: 1 file or folder that operating systems write: __MACOSX",
        "not used: 1 file that is not an image (.txt): dark/notes.txt",
    ]
    doubts = [
        "1 image looks like masks, previews or copies of other images, such as dark/masks/0.png",
        "1 image is of the format HEIC, which is not supported, such as light/a.heic",
    ]
    assert sightx("init", "data/train", "--output", "a.toml").code == 0
    spec = (working_folder / "a.toml").read_text().replace("\n# ", " ")
    assert all(line.removeprefix("not ") in spec for line in unused)
    assert all(f"Warning: {line}" in spec for line in doubts)

    deep = sightx("validate", "--deep", "a.toml")
    assert deep.code == 0
    assert all(line in deep.out for line in unused)
    assert all(line in deep.out + deep.err for line in doubts)
    assert sightx("validate", "--deep", "--strict", "a.toml").code == 2

    done = sightx("run", "a.toml", *SHORT)
    assert done.code == 0
    assert all(line in done.out for line in unused)
    assert all(line in done.err for line in doubts)


def test_nothing_is_overwritten(sightx, flat: Path, working_folder: Path) -> None:
    (working_folder / "a.toml").write_text("mine")
    done = sightx("init", str(flat), "--output", "a.toml")
    assert (done.code, done.out) == (2, "")
    assert done.lines == ["error[exists] a.toml exists; give another --output"]
    assert (working_folder / "a.toml").read_text() == "mine"


def test_a_full_disk_leaves_no_part_of_a_spec(sightx, flat: Path, small_disk: Path) -> None:
    fill = small_disk / "fill"
    with pytest.raises(OSError, match="No space"):
        fill.write_bytes(bytes(30 << 20))
    done = sightx("init", str(flat), "--output", str(small_disk / "a.toml"))
    assert done.code == 7
    assert done.lines == [
        f"error[disk-write] disk full: 0 kB free in {small_disk}; free space, then try again"
    ]
    fill.unlink()
    assert sightx("init", str(flat), "--output", str(small_disk / "a.toml")).code == 0


def test_a_missing_folder_exits_with_2(sightx, flat: Path) -> None:
    done = sightx("init", str(flat), "--output", "no/a.toml")
    assert (done.code, done.lines) == (2, ["error[usage] no is not a folder; create it first"])


def test_unusable_data_exit_with_3_and_leave_no_file(sightx, working_folder: Path) -> None:
    (working_folder / "empty").mkdir()
    done = sightx("init", "empty", "--output", "a.toml")
    assert (done.code, done.out) == (3, "")
    assert done.lines[0].startswith("empty: error[no-classes] ")
    assert not (working_folder / "a.toml").exists()


def test_a_warning_in_a_written_spec_is_printed_too_and_resnet50_can_be_set(
    sightx, flat: Path, working_folder: Path
) -> None:
    paths = sorted(path.relative_to(flat).as_posix() for path in flat.rglob("*.png"))
    rows = [f"{path},{path.partition('/')[0]}" for path in [*paths, "dark/lost.png"]]
    (flat / "some.csv").write_text("\n".join(["image,label", *rows]))
    done = sightx("init", "data/train/some.csv", "-o", "a.toml")
    assert "a.toml: warning: 1 of" in done.err
    assert "such as dark/lost.png" in done.err
    changes = ["--set", "model.use=resnet50", "--set", "model.weights=imagenet"]
    assert "widths" in sightx("validate", "a.toml", *changes).err


def test_a_class_that_is_left_out_is_a_warning(sightx, flat: Path, working_folder: Path) -> None:
    (flat / "empty").mkdir()
    done = sightx("init", "data/train", "-o", "a.toml")
    assert (done.code, done.lines[0]) == (
        0,
        'a.toml: warning: data/train/empty: a class without images; others = "drop" leaves it out.',
    )
    assert 'others = "drop"' in (working_folder / "a.toml").read_text()
