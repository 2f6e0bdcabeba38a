from __future__ import annotations

import json

import pytest


def copy(folders, name: str, to: str) -> None:
    (folders / to).write_bytes((folders / name).read_bytes())


def test_a_report_is_printed(sightx, spec):
    done = sightx("audit", str(spec))

    assert done.code == 0
    assert done.out.startswith("No groups are declared: images of one patient may be in two splits")
    assert "0 exact, 0 certain and 0 likely near copies across splits (48 of 48" in done.out
    assert "always predicting the largest class: test accuracy 0.500" in done.out
    assert "warn[uncertain-recall] split: the test split has too few samples to measure" in done.out
    assert done.out.splitlines()[-1].startswith("findings: 0 refuse, ")
    assert sightx("audit", str(spec), "--strict").code == 2


def test_leaks_end_with_three_and_everything_is_written(sightx, spec, folders, working_folder):
    copy(folders, "train/dark/0.png", "test/dark/copy.png")

    done = sightx("audit", str(spec), "--json", "--html", "a.html", "--exclude", "a.csv")

    assert done.code == 3
    report = json.loads(done.out)
    assert report["findings"][0]["code"] == "copies-across-splits"
    assert report["findings"][0]["examples"][0]["paths"] == [
        "train/dark/0.png", "test/dark/copy.png"
    ]  # fmt: skip
    assert report["suggestions"] == {"train/dark/0.png": "a copy of test/dark/copy.png"}
    assert (working_folder / "a.html").read_text().startswith("<!doctype html>")
    (hint,) = [line for line in done.err.splitlines() if "a.csv" in line]
    words = hint.partition("use it with ")[2].split()
    assert sightx("audit", str(spec), *words).code == 0


def test_broken_labels_are_a_finding(sightx, working_folder, write_spec):
    (working_folder / "labels.csv").write_text("image,label\na.png,0\nb.png,\n")
    spec = write_spec(
        'name = "a"\n[dataset]\nuse = "csv"\nroot = "."\n[[preprocess]]\nuse = "resize"\nsize = 8\n'
        '[model]\nuse = "simplenet"\n'
    )

    done = sightx("audit", str(spec))

    assert done.code == 3
    assert "refuse[label-missing] dataset: " in done.out
    assert "labels.csv:3: label is ''" in done.out
    assert "hint: fill it or delete the row" in done.out


@pytest.mark.parametrize("option", ["--html", "--exclude"])
def test_a_folder_is_not_a_file(sightx, spec, working_folder, option):
    done = sightx("audit", str(spec), option, ".")
    assert done.code == 2
    assert option in done.err
