"""Hints about folders and tables, and those of `sightx audit`: each test does what one says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.commands import sightx_main
from support.hints import deep, draw, write_dataset

Line = Callable[..., str]


def test_a_layout_that_is_proposed_is_valid(working_folder: Path, error_line: Line) -> None:
    draw(working_folder / "F" / "a", "train val", 12)
    draw(working_folder / "F" / "b", "train val", 8)
    draw(working_folder / "G" / "train", "a b", 12)
    draw(working_folder / "G" / "val", "a b", 12)
    draw(working_folder / "H", "a b", 12)
    write_dataset(working_folder)
    line = error_line("validate", "--deep", "spec.toml", "--set", 'dataset.layout="split"')
    assert 'layout = "class-split" in [dataset] if the root contains the classes' in line
    line = error_line(
        "validate", "--deep", "--strict", "spec.toml", "--set", 'dataset.layout="flat"'
    )
    assert 'layout = "class-split" in [dataset] reads ROOT/CLASS/SPLIT' in line
    assert deep('dataset.layout="class-split"') == 0
    for root, layout in {"G": "split", "H": "flat"}.items():
        write_dataset(
            working_folder, f'use = "image-folder"\nroot = "{root}"\nlayout = "class-split"\n'
        )
        assert 'layout = "flat" or "split" in [dataset]' in error_line(
            "validate", "--deep", "spec.toml"
        )
        assert deep(f'dataset.layout="{layout}"') == 0


@pytest.mark.parametrize(
    ("encoding", "separator", "cell"),
    [("cp1252", ",", "{}.png"), ("utf-8", ";", "{}.png"), ("utf-8", ",", "/old/scans/{}.png"),
     ("utf-8", ",", "images/{}.png")],
)  # fmt: skip
def test_a_setting_of_a_table_that_is_proposed_is_valid(
    working_folder: Path, error_line: Line, encoding: str, separator: str, cell: str
) -> None:
    draw(working_folder / "F" / "images", "é", 12)
    images = "F/images/é" if "images" not in cell else "F/images"
    draw(working_folder / "F" / "images", ".", 12)
    rows = [["image", "label"], *([cell.format(k), f"{'éa'[k % 2]}"] for k in range(12))]
    text = "".join(f"{separator.join(row)}\n" for row in rows)
    (working_folder / "F" / "labels.csv").write_bytes(text.encode(encoding))
    folder = images.removeprefix("F/")
    write_dataset(working_folder, f'use = "csv"\nroot = "F"\nimages = "{folder}"\n')
    words = ["run", "spec.toml", "--quiet"] if "images/" in cell else ["validate", "--deep"]
    line = error_line(*words, *(["spec.toml"] if len(words) == 2 else []), code=3)
    ((key, value),) = re.findall(r'set (\w+) = ("[^"]*") in \[dataset\]', line)
    assert deep(f"dataset.{key}={json.loads(value)!r}") == 0


def test_an_audit_leads_to_data_without_copies(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copies in two splits, copies with two labels, and classes that a split has more often."""
    data = working_folder / "my data"
    draw(data / "train", "a b", 30)
    draw(data / "train", "a", 90)
    draw(data / "val", "a b", 30)
    draw(data / "val", "b", 90)
    for k in range(5):
        copy = data / "train" / "a" / f"{k}.png"
        (data / "val" / "a" / f"copy{k}.png").write_bytes(copy.read_bytes())
        (data / "train" / "b" / f"copy{k}.png").write_bytes(copy.read_bytes())
    write_dataset(working_folder, 'use = "image-folder"\nroot = "my data"\n')
    command = ["audit", "spec.toml", "--json"]
    assert sightx_main(*command) == 3
    findings = {one["code"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    for code in ("copies-across-splits", "conflicting-copies"):
        assert "sightx audit SPEC --exclude FILE lists" in findings[code]["hint"]
    assert sightx_main(*command, "--exclude", "to leave out.csv") == 3
    use = capsys.readouterr().err.splitlines()[-1]
    (_, setting) = shlex.split(use[use.index("--set") :])
    assert sightx_main(*command, "--set", setting) == 0
    left = {one["code"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert not left & {"copies-across-splits", "conflicting-copies"}
    assert 'split.use = "stratified" or "grouped"' in findings["class-drift"]["hint"]
    for split in ("stratified", "grouped"):
        sightx_main(*command, "--set", setting, "--set", f"split.use={split}")
        left = {one["code"] for one in json.loads(capsys.readouterr().out)["findings"]}
        assert "class-drift" not in left


@pytest.mark.parametrize("split", ["given", "stratified"])
def test_copies_in_two_splits_are_left_out_or_allowed(
    working_folder: Path, error_line: Line, split: str
) -> None:
    """The list takes the place of one that is set, and another division meets no other copies."""
    draw(working_folder / "F" / "train", "a b", 12)
    draw(working_folder / "F" / "val", "a b", 6)
    for k in range(5):
        for copy in (f"train/a/same{k}.png", f"val/a/same{k}.png"):
            image = working_folder / "F" / "train" / "a" / f"{k}.png"
            (working_folder / "F" / copy).write_bytes(image.read_bytes())
    (working_folder / "mine.csv").write_text("path,reason\ntrain/b/0.png,blurred\n")
    write_dataset(working_folder, 'use = "image-folder"\nroot = "F"\nexclude = "mine.csv"\n')
    words = ["run", "spec.toml", "--quiet", "--set", f"split.use={split}", "--runs", "my runs"]
    _, exclude, allow = error_line(*words, code=3).rsplit("; ", 2)
    (_, change) = shlex.split(exclude.partition("leave copies out: ")[2])
    assert sightx_main(*words, "--set", change) == 0
    left_out = (working_folder / change.partition("=")[2]).read_text().splitlines()
    assert left_out[1] == "train/b/0.png,blurred,"
    assert len(left_out) == 12
    spec = working_folder / "spec.toml"
    spec.write_text(f"{allow.removeprefix('if it is meant: ').strip()}\n{spec.read_text()}")
    assert sightx_main(*words) == 0


def test_copies_with_different_labels_are_listed_or_allowed(
    working_folder: Path, error_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(working_folder / "F" / "train", "a b", 12)
    draw(working_folder / "F" / "val", "a b", 6)
    copy = (working_folder / "F" / "train" / "a" / "11.png").read_bytes()
    (working_folder / "F" / "train" / "b" / "11.png").write_bytes(copy)
    write_dataset(working_folder)
    line = error_line("run", "spec.toml", "--quiet", code=3)
    hint = 'sightx audit SPEC lists them, or allow = ["conflicting-copies"]'
    assert hint in line
    sightx_main("audit", "spec.toml")
    assert "train/a/11.png and train/b/11.png" in capsys.readouterr().out
    words = ["--set", "allow=['conflicting-copies']"]
    assert sightx_main("run", "spec.toml", "--quiet", *words) == 0


def test_what_an_audit_does_not_show_is_in_its_json_and_its_page(
    working_folder: Path, error_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(working_folder / "F" / "train", "a b", 12)
    draw(working_folder / "F" / "val", "a b", 12)
    for k in range(10):
        image = Image.fromarray(np.full((8, 8, 3), 20 * k, np.uint8))
        image.save(working_folder / "F" / "train" / "a" / f"same{k}.png")
        image.save(working_folder / "F" / "val" / "a" / f"same{k}.png")
    write_dataset(working_folder)
    (working_folder / "a.html").write_text("mine")
    assert "give another --html" in error_line("audit", "spec.toml", "--html", "a.html", code=2)
    assert (working_folder / "a.html").read_text() == "mine"
    capsys.readouterr()
    assert sightx_main("audit", "spec.toml", "--html", "b.html") == 3
    more = re.findall(r"- (\d+) more with --json or --html", capsys.readouterr().out)
    assert more
    assert sightx_main("audit", "spec.toml", "--json") == 3
    (finding, *_) = json.loads(capsys.readouterr().out)["findings"]
    page = (working_folder / "b.html").read_text()
    assert len(finding["examples"]) > int(more[0])
    assert all(path in page for one in finding["examples"] for path in one["paths"])
