"""`sightx predict` on files, folders, lists and pairs."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightx import Predictor, Run
from support.commands import sightx_main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with four photographs and a damaged one."""
    monkeypatch.chdir(tmp_path)
    for name in ("dark", "light"):
        for number in (0, 1):
            shutil.copy(data / "test" / name / f"{number}.png", tmp_path / f"{name}{number}.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "dark0.png").read_bytes()[:60])
    return tmp_path


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_folders_and_patterns_are_predicted_in_the_order_given(
    trained: Run, data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(trained.directory)
    images = sorted((data / "test" / "dark").iterdir())
    scans = tmp_path / "scans"
    (scans / "deep" / ".hidden").mkdir(parents=True)
    names = ["10.png", "9.png", "deep/no ending", "deep/.hidden/x.png"]
    for image, name in zip(images, names, strict=False):
        shutil.copy(image, scans / name)
    (scans / "7.png").write_bytes(images[0].read_bytes()[:60])  # damaged
    (scans / "notes.txt").write_text("notes")
    (tmp_path / "empty").mkdir()
    shutil.copytree(data, tmp_path / "data")
    arguments = ["data/test/light/3.png", "scans", "nothing/*.png", "scans/1*.png", "empty",
                 "data/t?st/**/0.png", "absent.png"]  # fmt: skip
    assert sightx_main("predict", run, "--json", *arguments) == 3
    out, err = capsys.readouterr()
    assert [record["file"] for record in records(out)] == [
        "data/test/light/3.png", "scans/7.png", "scans/9.png", "scans/10.png",
        "scans/deep/no ending", "nothing/*.png", "scans/10.png", "empty", "data/test/dark/0.png",
        "data/test/light/0.png", "absent.png",
    ]  # fmt: skip
    alone = Predictor.load(run, "cpu").predict("data/test/light/3.png")
    assert records(out)[0] == {"file": "data/test/light/3.png", **alone.to_json()}
    lines = sorted(err.splitlines()[1:])
    starts = ["7 graded, 4 failed", "absent.png: error[no-images] there is no such file",
              "empty: error[no-images] the folder has no images",
              "nothing/*.png: error[no-images] no file matches",
              "scans/7.png: error[bad-image] ",
              "scans: 1 file is not an image, such as scans/notes.txt"]  # fmt: skip
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_the_class_and_the_probabilities_are_printed(
    trained: Run, folder: Path, capsys: Capture
) -> None:
    files = ["dark0.png", "bad.png", "light0.png"]
    assert sightx_main("predict", str(trained.directory), *files) == 3
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["dark0.png:", "dark"], ["bad.png:", "error"], ["light0.png:", "light"]
    ]  # fmt: skip
    assert out.splitlines()[1] == "bad.png: error  truncated"
    assert err.splitlines()[0].startswith(f"{trained.id}, step-")
    assert "bad.png" in err.splitlines()[1]


def test_a_closed_pipe_ends_the_printing_and_the_csv_file_is_complete(
    trained: Run, folder: Path
) -> None:
    command = [sys.executable, "-m", "sightx", "predict", str(trained.directory), "dark0.png",
               "light0.png", "--json", "--csv", "a.csv"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode in {0, 141}
    assert "error" not in errors
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text())))
    assert [row["path"] for row in rows] == ["dark0.png", "light0.png"]


def test_a_dash_is_standard_output_or_an_error(trained: Run, folder: Path, capsys: Capture) -> None:
    run = str(trained.directory)
    assert sightx_main("predict", run, "dark0.png", "bad.png", "--csv", "-") == 3
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["path"], row["outcome"]) for row in rows] == [
        ("dark0.png", "graded"), ("bad.png", "error")
    ]  # fmt: skip
    for words in (
        ["predict", run, "dark0.png", "--csv", "-", "--json"], ["report", run, "--html", "-"],
        ["archive", run, "-o", "-"], ["init", ".", "-o", "-"], ["predict", run, "--pairs", "-"],
        ["audit", run, "--exclude", "-"], ["export", run, "--to", "-"],
    ):  # fmt: skip
        assert sightx_main(*words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "error[usage]" in line
    assert not Path("-").exists()


def test_a_csv_file_has_a_row_per_image_and_no_formula(
    trained: Run, folder: Path, capsys: Capture
) -> None:
    Path("dark0.png").rename("=1+1.png")
    run = str(trained.directory)
    images = ["=1+1.png", "bad.png", "light1.png"]
    assert sightx_main("predict", run, *images, "--csv", "a.csv", "--json") == 3
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text())))
    assert [row["path"] for row in rows] == ["'=1+1.png", "bad.png", "light1.png"]
    assert [row["outcome"] for row in rows] == ["graded", "error", "graded"]
    assert rows[1]["error"] == "truncated"
    for row, record in zip(rows, records(capsys.readouterr().out), strict=True):
        shares = {one["class"]: one["probability"] for one in record.get("probabilities", ())}
        assert record["format"] == 1
        assert {name: float(row[f"p:{name}"]) for name in shares} == shares
        if shares:
            assert float(row["score"]) == shares["light"]


def test_lists_come_from_a_csv_file_or_from_standard_input(
    trained: Run, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lists").mkdir()
    (folder / "lists" / "a.csv").write_text("id,path\n1,../light1.png\n2,../dark1.png\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("dark0.png\nlight0.png\n"))
    assert sightx_main("predict", str(trained.directory), "lists/a.csv", "-", "--json") == 0
    assert [Path(record["file"]).name for record in records(capsys.readouterr().out)] == [
        "light1.png", "dark1.png", "dark0.png", "light0.png"
    ]  # fmt: skip


def test_a_table_of_labels_lists_its_images(trained: Run, folder: Path, capsys: Capture) -> None:
    """The folder and the ending are found as `sightx init` finds them; a missing image is said."""
    (folder / "study" / "images" / "deep").mkdir(parents=True)
    for name in ("dark0", "light1"):
        Path(f"{name}.png").rename(folder / "study" / "images" / f"{name}.png")
    table = folder / "study" / "labels.csv"
    words = ["predict", str(trained.directory), "study/labels.csv", "--json"]
    table.write_text("id;level;image\n7;0;dark0\n8;1;absent\n9;1;light1\n")
    assert sightx_main(*words) == 3
    first, absent, last = records(capsys.readouterr().out)
    assert first["file"] == str(Path("study/images/dark0.png"))
    assert absent["file"] == str(Path("study/images/absent.png"))
    assert (first["class"], absent["outcome"], last["class"]) == ("dark", "error", "light")
    Path("study/images/dark0.png").rename("study/images/deep/dark0.png")
    for text in ("dark0.png,0\nlight1.png,1\n", "name,0,1\ndark0,1,0\nlight1,0,1\n"):
        table.write_text(text)  # without a header, and with numbers in it
        assert sightx_main(*words) == 0
        files = [Path(record["file"]).name for record in records(capsys.readouterr().out)]
        assert files == ["dark0.png", "light1.png"]


def test_a_list_without_images_is_an_error(trained: Run, folder: Path, capsys: Capture) -> None:
    words = ["predict", str(trained.directory), "a.csv"]
    (folder / "a.csv").write_text("id,file\n1,absent.png\n")
    assert sightx_main(*words) == 3
    assert "no column names image files at or below ." in capsys.readouterr().err
    for header in ("id,file\n", ""):
        (folder / "a.csv").write_text(f"{header}1,dark1.png\n2,dark0.png,x\n")
        assert sightx_main(*words) == 3
        line = 3 if header else 2
        assert f"a.csv:{line}: error[ragged-row]" in capsys.readouterr().err


def test_a_patient_has_the_grade_of_the_worse_eye(
    trained: Run, folder: Path, capsys: Capture
) -> None:
    Path("pairs.csv").write_text(
        "patient,left,right\na,dark0.png,light0.png\nb,bad.png,dark1.png\nc,,bad.png\n"
    )
    words = ["predict", str(trained.directory), "--pairs", "pairs.csv"]
    assert sightx_main(*words, "--json", "--csv", "p.csv") == 3
    first, second, third = records(capsys.readouterr().out)
    assert (first["patient"], first["grade"], first["class"], first["from"]) == (
        "a", 1, "light", "both"
    )  # fmt: skip
    assert (first["left"]["class"], first["right"]["class"]) == ("dark", "light")
    assert (second["grade"], second["from"]) == (0, "right")
    assert second["errors"][0]["file"] == "bad.png"
    assert third.keys() == {"format", "patient", "outcome", "errors"}
    assert (third["patient"], third["outcome"]) == ("c", "error")
    rows = list(csv.DictReader(io.StringIO(Path("p.csv").read_text())))
    assert [row["class"] for row in rows] == ["light", "dark", ""]
    assert rows[2]["error"] == "bad.png: truncated"


def test_a_patient_without_a_readable_photograph_has_failed(
    trained: Run, folder: Path, capsys: Capture
) -> None:
    """Ungradable is a verdict on photographs; of `c` there is none, which is no error."""
    Path("pairs.csv").write_text("patient,left,right\na,absent.png,bad.png\nb,dark0.png,\nc,,\n")
    words = ["predict", str(trained.directory), "--pairs", "pairs.csv"]
    assert sightx_main(*words) == 3
    out, err = capsys.readouterr()
    failed = "absent.png: there is no such file; bad.png: truncated"
    first, second, third = out.splitlines()
    assert first == f"a: error  {failed.replace(';', ' ')}"
    assert second.startswith("b: dark  left dark")
    assert third.rstrip() == "c: ungradable"
    assert err.splitlines()[-1] == "1 graded, 1 ungradable, 1 failed"
    assert sightx_main(*words, "--json", "--csv", "p.csv") == 3
    first = records(capsys.readouterr().out)[0]
    assert [one["error"]["code"] for one in first["errors"]] == ["no-images", "bad-image"]
    row = next(csv.DictReader(io.StringIO(Path("p.csv").read_text())))
    assert (row["outcome"], row["error"]) == ("error", failed)


def test_explanations_are_pictures_of_the_size_of_the_input(
    trained: Run, folder: Path, data: Path, capsys: Capture
) -> None:
    files = ["dark0.png", str(data / "test/dark/0.png"), str(data / "test/light/0.png"), "bad.png"]
    assert sightx_main("predict", str(trained.directory), *files, "--explain", "maps") == 3
    assert sorted(path.name for path in Path("maps").iterdir()) == [
        "0-2.png", "0.png", "dark0.png"
    ]  # fmt: skip
    picture = np.asarray(Image.open("maps/dark0.png"))
    expected = Predictor.load(trained.directory, "cpu").explain("dark0.png").overlay
    assert np.array_equal(picture, expected)


@pytest.mark.parametrize("arguments", [[], ["a.png", "--pairs", "b.csv"]])
def test_images_or_pairs_are_needed(trained: Run, arguments: list[str], capsys: Capture) -> None:
    assert sightx_main("predict", str(trained.directory), *arguments) == 2
    assert "--pairs" in capsys.readouterr().err


def test_answers_and_pictures_replace_nothing_of_the_user(
    trained: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = data / "test" / "dark" / "0.png"
    words = ["predict", str(trained.directory), str(image)]
    (mine := tmp_path / "list.csv").write_text(f"path\n{image}\n")
    assert sightx_main(*words, "--csv", str(mine)) == 2
    assert "only answers of sightx predict are replaced" in capsys.readouterr().err
    assert mine.read_text() == f"path\n{image}\n"
    answers = tmp_path / "answers.csv"
    for _ in range(2):
        assert sightx_main(*words, "--csv", str(answers)) == 0
    assert len(answers.read_text().splitlines()) == 2
    (picture := tmp_path / "0.png").write_bytes(image.read_bytes())
    for _ in range(2):
        assert sightx_main(*words, "--explain", str(tmp_path)) == 0
    assert picture.read_bytes() == image.read_bytes()
    assert {path.name for path in tmp_path.glob("*.png")} == {"0.png", "0-2.png"}


def test_a_name_that_is_not_utf8_is_escaped_in_every_format(
    trained: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "\udcff.png"
    path.write_bytes((data / "test" / "dark" / "0.png").read_bytes())
    words = ["predict", str(trained.directory), str(path)]
    assert sightx_main(*words, "--csv", str(tmp_path / "a.csv")) == 0
    assert "/\\udcff.png,graded" in (tmp_path / "a.csv").read_text()
    assert sightx_main(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(path)
