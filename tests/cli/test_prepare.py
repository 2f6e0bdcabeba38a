from __future__ import annotations

import os

import pytest


def prepare(sightx, spec, *words):
    done = sightx("prepare", str(spec), *words)
    assert done.err == ""
    return done.out.splitlines()


def rows(cache_root):
    (folder,) = (cache_root / "pixels").iterdir()
    return folder


def test_everything_is_prepared_before_a_run(sightx, spec, cache_root):
    images, counts, seconds, _ = prepare(sightx, spec)

    assert images == "48 images; 48 rows, 9.2 kB"
    assert counts == "48 preprocessed, 0 verified in the cache"
    assert "images/s" in seconds
    assert seconds.endswith(str(cache_root))
    before = (rows(cache_root) / "index.bin").stat().st_size

    sets = ["--set", "training.epochs=1", "--set", "observer=[]"]  # a report has larger images
    done = sightx("run", str(spec), "--quiet", *sets)

    assert done.code == 0
    assert (rows(cache_root) / "index.bin").stat().st_size == before == 48 * 36


def test_damaged_rows_are_preprocessed_again(sightx, spec, cache_root):
    prepare(sightx, spec)
    with (rows(cache_root) / "rows.bin").open("r+b") as file:
        file.seek(192 * 3)
        file.write(b"damaged")
    os.truncate(rows(cache_root) / "index.bin", 36 * 47)

    _, counts, *_ = prepare(sightx, spec)

    assert counts == (
        "2 preprocessed (1 because the cached row was damaged), 46 verified in the cache"
    )
    assert prepare(sightx, spec)[1] == "0 preprocessed, 48 verified in the cache"


@pytest.mark.parametrize(
    ("decode", "word"),
    [("scaled", "a JPEG is decoded at 14 x 14 pixels or more"), ("exact", None)],
)
def test_the_size_that_is_decoded_is_printed(sightx, spec, decode, word):
    lines = prepare(sightx, spec, "--set", f"dataset.decode={decode}")

    assert lines[3:] == ([word] if word else [])


def test_the_cache_is_built_even_if_a_run_would_not(sightx, spec, cache_root):
    prepare(sightx, spec, "--set", "execution.cache=off", "--quiet")

    assert (rows(cache_root) / "rows.bin").stat().st_size == 48 * 192


def test_bad_images_are_listed_in_the_file_that_faults_names(sightx, spec, working_folder, folders):
    (folders / "train" / "dark" / "3.png").write_bytes(b"")

    done = sightx("prepare", str(spec))

    assert done.code == 3
    assert "1 of 48 images cannot be read; first: train/dark/3.png (empty file)" in done.err
    assert (
        (working_folder / "bad-images.csv")
        .read_text()
        .splitlines()[1]
        .startswith("train/dark/3.png,")
    )
    skip = ["--set", "dataset.on_bad_image=skip", "--set", "dataset.bad_images_at_most=0.1"]
    done = sightx("prepare", str(spec), "--faults", "list.csv", *skip)
    assert done.out.startswith("48 images, 1 cannot be read; 47 rows")
    assert (working_folder / "list.csv").is_file()


def test_a_list_that_a_spec_uses_is_not_replaced(sightx, spec, working_folder, folders):
    for name, more in {"3": [], "4": ["--set", "dataset.exclude=bad-images.csv"]}.items():
        (folders / "train" / "dark" / f"{name}.png").write_bytes(b"")
        done = sightx("prepare", str(spec), *more)
        assert done.code == 3
    first = (working_folder / "bad-images.csv").read_text().splitlines()
    second = (working_folder / "bad-images-2.csv").read_text().splitlines()

    assert [line.partition(",")[0] for line in first[1:]] == ["train/dark/3.png"]
    assert [line.partition(",")[0] for line in second[1:]] == [
        "train/dark/3.png", "train/dark/4.png"
    ]  # fmt: skip
    assert "--set dataset.exclude=./bad-images-2.csv" in done.err
    assert sightx("prepare", str(spec), "--set", "dataset.exclude=bad-images-2.csv").code == 0


@pytest.mark.parametrize("link", [False, True])
def test_a_file_of_the_user_is_not_replaced(sightx, spec, working_folder, folders, link):
    mine = working_folder / "mine.txt"
    mine.write_text("mine")
    if link:
        (working_folder / "bad-images.csv").symlink_to(mine)
    else:
        (working_folder / "bad-images.csv").write_text("mine")
    (folders / "train" / "dark" / "3.png").write_bytes(b"")

    for _ in range(2):  # an equal list is not written again
        assert "exclude=./bad-images-2.csv" in sightx("prepare", str(spec)).err

    assert (working_folder / "bad-images.csv").read_text() == mine.read_text() == "mine"
    assert not (working_folder / "bad-images-3.csv").exists()
