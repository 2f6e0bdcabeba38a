"""Names of images, classes and folders that files and programs take for something else."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

import sightx
from support.commands import sightx_main
from support.hints import FLAT, draw, write_dataset
from support.run_folders import read_json, replace_json, write_run

FORMULA = ("=", "+", "-", "@")
CLASSES = ["=1+1", "@b"]


def cells(file: Path) -> set[str]:
    with file.open(newline="", encoding="utf-8") as rows:
        return {cell for row in csv.reader(rows) for cell in row}


def test_no_csv_file_has_a_formula_and_every_command_knows_the_names(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, count in {"train": 8, "val": 6, "test": 6}.items():
        draw(working_folder / "F" / folder, " ".join(CLASSES), count)
    rows = ["image,label,split,-site"]
    for split in ("train", "val", "test"):
        for name in CLASSES:
            for path in sorted((working_folder / "F" / split / name).iterdir()):
                new = path.rename(working_folder / "F" / f"-{split}{name}{path.name}")
                rows.append(f"{new.name},{name},{split},=site")
    (working_folder / "F" / "labels.csv").write_text("\n".join(rows) + "\n")
    write_dataset(
        working_folder,
        'use = "csv"\nroot = "F"\nsplit = "split"\nextra_columns = ["-site"]\n'
        'images = "."\nexclude = "out.csv"\n',
    )
    broken = "-train=1+12.png"
    (working_folder / "F" / broken).write_bytes(b"\x89PNG\r\n\x1a\n")
    (working_folder / "out.csv").write_text(f"path,reason\n-train@b0.png,=why\n{broken},\n")
    assert sightx_main("run", "spec.toml", "--quiet") == 0
    run = sightx.open_run(next(Path("runs").iterdir()))
    assert "-test@b1.png" in set(run.samples["path"])
    predictions = run.predictions("test")
    assert set(predictions["label"]) == set(CLASSES)
    assert set(predictions["-site"]) == {"=site"}
    assert sightx_main("evaluate", str(run.directory)) == 0
    assert sightx_main("audit", "spec.toml", "--exclude", "more.csv") == 0
    assert sightx_main("run", "spec.toml", "--quiet", "--set", "dataset.exclude=more.csv") == 0
    assert sightx_main("predict", str(run.directory), "F/-test@b1.png", "--csv", "a.csv") == 0
    assert sightx_main("prepare", "spec.toml", "--pack", "pack") == 0
    assert sightx_main("run", "pack/spec.toml", "--quiet", "--runs", "packed") == 0
    packed = sightx.open_run(next(Path("packed").iterdir()))
    assert list(packed.samples["path"]) == list(run.samples["path"])
    listed = run.directory / "split.csv"
    words = ["--set", f"split={{use='listed', file='{listed}'}}"]
    assert sightx_main("validate", "--deep", "spec.toml", *words) == 0
    files = [file for file in Path().rglob("*.csv") if file.parent.name not in ("F", "inputs")]
    assert len(files) > 8
    for file in files:
        if file.name != "out.csv":
            assert not {cell for cell in cells(file) if cell.startswith(FORMULA)}, file


def test_names_that_are_not_utf8_are_named_where_a_spec_would_hold_them(
    working_folder: Path, error_line: Callable[..., str]
) -> None:
    draw(working_folder / "F", "a b \udcff", 12)
    draw(working_folder / "N\udcff", "a b", 12)
    write_dataset(working_folder)
    line = error_line("init", "F", code=3)
    assert "the class '\\udcff' is not UTF-8; rename it" in line
    assert "the path is not UTF-8" in error_line("init", "N\udcff", code=3)
    words = ["--set", "dataset.root=N\udcff", "--set", 'dataset.layout="flat"']
    line = error_line("run", "spec.toml", *words, code=2)
    assert "/N\\udcff' is not UTF-8" in line
    (working_folder / "F" / "\udcff").rename(working_folder / "c")
    (project := working_folder / "P\udcff").mkdir()
    (working_folder / "F").rename(project / "F")
    write_dataset(project, FLAT)
    line = error_line("validate", str(project / "spec.toml"), code=2)
    assert "dataset.root: '/" in line
    assert "is not UTF-8; rename the folder or the file" in line


def test_a_run_in_a_folder_that_is_not_utf8_is_listed(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = working_folder / "R\udcff"
    run = write_run(runs, "a")
    environment = read_json(run / "environment.json")
    replace_json(run / "environment.json", environment | {"project": str(runs)})
    replace_json(run / "about.json", {"tags": [], "note": "\udcff"})
    assert sightx_main("list-runs", "--runs", str(runs)) == 0
    assert "20260131-a" in capsys.readouterr().out
    assert sightx_main("tag", "20260131-a", "--note", "\udcff", "--runs", str(runs)) == 2
    assert "the note is not UTF-8" in capsys.readouterr().err
