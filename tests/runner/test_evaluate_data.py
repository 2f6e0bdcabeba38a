"""A run is scored on other data: with its own classes, preprocessing and thresholds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sightx import DataError, Predictor, Run, SpecError
from sightx.runner.evaluate import evaluate
from sightx.runner.evaluate_data import evaluate_data
from support.commands import sightx_main


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
