"""A run is scored on other data: with its own classes, preprocessing and thresholds."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

import sightx
from sightx import DataError, Predictor, Run, SpecError
from sightx.runner.evaluate import evaluate
from sightx.runner.evaluate_data import evaluate_data
from support.commands import sightx_main
from support.models import write_tiny_spec


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A copy of the trained run, which may be written to."""
    return Run(shutil.copytree(trained.directory, tmp_path / "runs" / trained.id))


def labels_csv(folder: Path, source: Path, names: dict[str, str]) -> Path:
    """Copy the test images to a folder, with a CSV file of labels, and return the file."""
    folder.mkdir()
    lines = ["image,label"]
    for path in sorted(source.rglob("*.png")):
        name = f"{path.parent.name}-{path.name}"
        shutil.copy(path, folder / name)
        lines.append(f"{name},{names[path.parent.name]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


def test_the_same_images_elsewhere_have_the_same_scores(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = evaluate(run, "test")
    own = run.predictions_of("test")
    file = labels_csv(tmp_path / "other", data / "test", {"dark": "0", "light": "1"})
    assert sightx_main("evaluate", str(run.directory), "--data", str(file)) == 0
    printed = capsys.readouterr().out
    (table,) = (run.directory / "predictions").glob("data-*.csv")
    assert f"predictions: {table}" in printed
    other = run.predictions_of(table.stem)
    assert own is not None
    assert other is not None
    assert (other.labels == own.labels).all()
    assert (other.probabilities == own.probabilities).all()
    assert (other.decisions == own.decisions).all()
    settings = {"use": "image-folder", "root": str(data / "test"), "layout": "flat"}
    assert evaluate_data(run, settings).metrics == expected.metrics


def few(kind: str, folder: Path, source: Path) -> Path:
    """Write other data with one image of a class, or none, and return them."""
    if kind in ("one class", "an empty class"):
        shutil.copytree(source / "dark", folder / "dark")
        if kind == "an empty class":
            (folder / "light").mkdir()
        return folder
    file = labels_csv(folder, source, {"dark": "0", "light": "1"})
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *lines[-6 if kind == "a rare position" else -5 :]]))
    if kind == "a rare position":
        file.write_text(file.read_text().replace(",1", ",0", 1))
    elif kind == "one name":
        file.write_text(file.read_text().replace(",1", ",light"))
    return file


@pytest.mark.parametrize(
    "kind", ["a rare position", "one position", "one name", "one class", "an empty class"]
)
def test_few_images_of_a_class_are_scored_because_nothing_is_trained(
    kind: str, run: Run, data: Path, tmp_path: Path
) -> None:
    other = few(kind, tmp_path / "other", data / "test")
    assert sightx_main("evaluate", str(run.directory), "--data", str(other)) == 0
    (table,) = (run.directory / "predictions").glob("data-*.csv")
    scored = run.predictions_of(table.stem)
    assert scored is not None
    counts = [int((scored.labels == label).sum()) for label in (0, 1)]
    expected = {"a rare position": [1, 5], "one class": [6, 0], "an empty class": [6, 0]}
    assert counts == expected.get(kind, [0, 5])


def test_one_class_that_the_run_does_not_have_is_named(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = few("one name", tmp_path / "other", data / "test")
    file.write_text(file.read_text().replace(",light", ",bright"))
    assert sightx_main("evaluate", str(run.directory), "--data", str(file)) == 3
    assert "label has one class: bright; the run has dark, light" in capsys.readouterr().err


def test_a_table_like_that_of_eyepacs_needs_no_image_of_each_grade(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_tiny_spec(tmp_path)
    for folder in (tmp_path / "data").iterdir():
        (folder / "dark").rename(folder / "none")
        (folder / "light").rename(folder / "mild")
    spec.write_text(spec.read_text().replace("dark", "none").replace("light", "mild"))
    run = sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    other = tmp_path / "other"
    other.mkdir()
    rows = ["10_left,0", "10_right,0", "11_left,1", "11_right,1", "12_left,0"]
    for number, row in enumerate(rows):
        Image.new("RGB", (20, 24), (40 * number, 0, 0)).save(
            other / f"{row.partition(',')[0]}.jpeg"
        )
    (other / "labels.csv").write_text("\n".join(["image,level", *rows]))
    command = ("evaluate", str(run.directory), "--data", str(other / "labels.csv"))
    (other / "12_left.jpeg").rename(tmp_path / "12_left.jpeg")
    assert sightx_main(*command) == 3
    assert "--set dataset.exclude=" in capsys.readouterr().err
    (tmp_path / "12_left.jpeg").rename(other / "12_left.jpeg")
    assert sightx_main(*command) == 0
    (table,) = (run.directory / "predictions").glob("data-*.csv")
    scored = run.predictions_of(table.stem)
    assert scored is not None
    assert list(scored.labels) == [0, 0, 1, 1, 0]


@pytest.fixture
def damaged(data: Path, tmp_path: Path) -> Path:
    """Other data, a folder of 12 images, of which 2 cannot be read."""
    folder = shutil.copytree(data / "test", tmp_path / "damaged")
    for name in ("dark/1.png", "light/3.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    return folder


def test_bad_images_of_other_data_are_left_out_by_the_list_that_the_error_names(
    run: Run, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("evaluate", str(run.directory), "--data", str(damaged))
    assert sightx_main(*command) == 3
    line = capsys.readouterr().err
    assert "error[bad-images] 2 of 12 images cannot be read" in line
    assert sightx_main(*command, *shlex.split(line[line.index("--set") :])) == 0
    assert "2 images of the data are skipped, first dark/1.png" in capsys.readouterr().err
    (table,) = (run.directory / "predictions").glob("data-*.csv")
    scored = run.predictions_of(table.stem)
    assert scored is not None
    assert len(scored.labels) == 10


def test_bad_images_of_other_data_can_be_skipped_up_to_a_share(
    run: Run, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("evaluate", str(run.directory), "--data", str(damaged))
    skip = (*command, "--set", "dataset.on_bad_image=skip", "--set")
    assert sightx_main(*skip, "dataset.bad_images_at_most=0.1") == 3
    assert "error[bad-images] 2 of 12 images cannot be read" in capsys.readouterr().err
    assert sightx_main(*skip, "dataset.bad_images_at_most=0.2") == 0
    assert sightx_main(*command, "--set", "dataset.on_bad_image=maybe") == 2
    assert "dataset.on_bad_image" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["dataset.root=elsewhere", "dataset.layout=flat", "seed=7"])
def test_settings_that_would_be_ignored_are_refused(change: str, run: Run, data: Path) -> None:
    settings = {"use": "image-folder", "root": str(data / "test"), "layout": "flat"}
    pattern = r"not read; only dataset\.exclude" if "dataset" in change else "another experiment"
    with pytest.raises(SpecError, match=pattern):
        evaluate_data(run, settings, changes=[change])
    assert evaluate_data(run, settings, changes=["execution.threads=1"]).metrics


def test_images_that_were_trained_on_are_a_warning(
    run: Run, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate_data(run, {"use": "image-folder", "root": str(data / "train"), "layout": "flat"})
    assert "24 of 24 images were in the train or validation split" in caplog.text


def test_a_label_that_is_not_a_class_of_the_run_is_named(
    run: Run, data: Path, tmp_path: Path
) -> None:
    file = labels_csv(tmp_path / "other", data / "test", {"dark": "dark", "light": "bright"})
    settings = {"use": "csv", "root": str(file.parent)}
    with pytest.raises(DataError, match="no class 'bright'; it has dark, light"):
        evaluate_data(run, settings)
    with pytest.raises(SpecError, match="the data cannot be read"):
        evaluate_data(run, {"use": "csv", "roof": "x"})
    assert Predictor.load(run.directory).recipe.classes == ("dark", "light")
