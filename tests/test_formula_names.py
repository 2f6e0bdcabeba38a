"""Names of images and classes that a spreadsheet would take for formulas."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import sightx
from support.commands import sightx_main
from support.hints import draw, write_dataset

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
