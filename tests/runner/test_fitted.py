"""All that a run fits: it does not depend on test labels, and every command applies it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import sightx
from sightx import Predictor, Run
from sightx.export.model import export_model
from sightx.inference.pairs import EyePair, predict_pairs
from sightx.reporting.report import render_report
from sightx.runner.evaluate import evaluate

SPEC = """
name = "fitted"
observer = []
preprocess = [{ use = "resize", size = 16 }]
[dataset]
use = "csv"
root = "."
label = "grade"
group = "patient"
split = "split"
ordered = true
[split]
use = "given"
[normalize]
use = "dataset"
[sampler]
use = "balanced"
[[augment]]
use = "mixup"
[model]
use = "simple-cnn"
widths = [4]
hidden = [6]
[loss]
use = "ordinal-regression"
[average]
use = "ema"
[[postprocess]]
use = "fellow-eye"
[[postprocess]]
use = "proportional-odds"
[[postprocess]]
use = "cut-points"
[optimizer]
use = "adam"
lr = 0.01
[training]
epochs = 3
batch_size = 8
[evaluation]
tta = "flips"
positive = ["2"]
"""
PATIENTS = {"train": 16, "validation": 10, "test": 8}


def write_data(folder: Path) -> pd.DataFrame:
    """Draw both eyes of patients, brighter on the left, and return their labels."""
    rng, rows = np.random.default_rng(0), []
    (folder / "images").mkdir(parents=True)
    for split, count in PATIENTS.items():
        for number in range(count):
            for eye in ("left", "right"):
                grade = (number + (rng.random() < 0.2)) % 3
                name = f"images/{split}{number}_{eye}.png"
                ramp = np.linspace(30, -30, 16)[:, None]
                pixels = 60 + 50 * grade + ramp + rng.normal(0, 25, (16, 16, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
                rows.append((name, grade, f"{split}{number}", split))
    return pd.DataFrame(rows, columns=["image", "grade", "patient", "split"])


def train(folder: Path, labels: pd.DataFrame) -> Run:
    labels.to_csv(folder / "labels.csv", index=False)
    (folder / "spec.toml").write_text(SPEC)
    return sightx.run(sightx.load(folder / "spec.toml"), runs=folder / "runs")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("fitted")
    frame = write_data(folder)
    frame.attrs["folder"] = folder
    return frame


@pytest.fixture(scope="module")
def trained(labels: pd.DataFrame) -> Run:
    return train(labels.attrs["folder"], labels)


def files(run: Run, names: Sequence[str]) -> dict[str, bytes]:
    return {name: (run.directory / name).read_bytes() for name in names}


def test_test_labels_move_no_fitted_number(labels: pd.DataFrame, trained: Run) -> None:
    is_test = labels["split"] == "test"
    changed = labels.assign(grade=labels["grade"].where(~is_test, (labels["grade"] + 1) % 3))
    other = train(labels.attrs["folder"], changed)
    labels.to_csv(labels.attrs["folder"] / "labels.csv", index=False)
    checkpoint = Path("checkpoints") / trained.checkpoint().name
    compared = [
        *(checkpoint / name for name in ("recipe.json", "model.safetensors", "state.json")),
        "predictions/validation.csv", "predictions/test.probabilities.npy",
    ]  # fmt: skip
    states = [files(run, compared) for run in (trained, other)]
    for name in compared:
        if name == checkpoint / "state.json":  # apart from the time that epochs took
            first, second = (json.loads(state[name]) for state in states)
            assert first["postprocess"] == second["postprocess"]
        else:
            assert states[0][name] == states[1][name], name
    assert trained.result["test"] != other.result["test"]
    assert trained.result["validation"] == other.result["validation"]


def image_tensor(labels: pd.DataFrame, split: str) -> torch.Tensor:
    names = labels.loc[labels["split"] == split, "image"]
    arrays = [np.asarray(Image.open(labels.attrs["folder"] / name)) for name in names]
    return torch.from_numpy(np.stack(arrays)).movedim(-1, 1)


def test_predictions_are_means_over_views(labels: pd.DataFrame, trained: Run) -> None:
    predictor = Predictor.load(trained.directory, "cpu")
    images = predictor.normalize(image_tensor(labels, "test"))
    with torch.no_grad():
        views = [predictor.module(images.flip(axes)) for axes in ([], [-1], [-2], [-1, -2])]
    outputs = np.load(trained.directory / "predictions" / "test.outputs.npy")
    mean = torch.stack(views).mean(dim=0)
    np.testing.assert_allclose(outputs, mean, atol=1e-5)
    grades = torch.tensor(list(labels.loc[labels["split"] == "test", "grade"]))
    for values, given in (
        (trained.result["without_tta"], views[0]),
        (trained.result["test"], mean),
    ):
        expected = float(((given[:, 0] - grades) ** 2).mean())
        assert values["test/loss"] == pytest.approx(expected, rel=1e-5)
    assert trained.result["without_tta"].keys() > trained.result["test"].keys()
    flipped = predictor.outputs(image_tensor(labels, "test").flip(-1))
    torch.testing.assert_close(flipped, torch.from_numpy(outputs), atol=1e-5, rtol=0)


def test_evaluate_scores_with_and_without_views(trained: Run) -> None:
    evaluation = evaluate(trained, "test")
    assert evaluation.metrics == pytest.approx(trained.result["test"], nan_ok=True)
    single = {k: v for k, v in trained.result["without_tta"].items() if k.startswith("test/")}
    assert evaluation.without_tta == pytest.approx(single, nan_ok=True)


def test_the_report_has_the_numbers_without_views(trained: Run) -> None:
    (note,) = re.findall(r"means over views of each image .flips.*?</p>", render_report(trained))
    assert f"accuracy {trained.result['without_tta']['test/accuracy']:.3f}" in note
    assert f"QWK {trained.result['without_tta']['test/qwk']:.3f}" in note


def test_pairs_are_predicted_as_they_were_evaluated(labels: pd.DataFrame, trained: Run) -> None:
    folder, predictor = labels.attrs["folder"], Predictor.load(trained.directory, "cpu")
    eyes = labels[labels["split"] == "test"]
    pairs = [
        EyePair(patient, *(folder / name for name in rows["image"]))
        for patient, rows in eyes.groupby("patient", sort=False)
    ]
    answers = [answer.answers for answer in predict_pairs(predictor, pairs)]
    predictions = [eye.prediction for both in answers for eye in both]
    evaluated = np.load(trained.directory / "predictions" / "test.probabilities.npy")
    given = [[one.probability for one in each.probabilities] for each in predictions]
    np.testing.assert_allclose(given, evaluated, atol=1e-6)
    table = pd.read_csv(trained.directory / "predictions" / "test.csv", dtype=str)
    assert [each.class_name for each in predictions] == list(table["prediction"])
    alone = predictor.predict(pairs[0].left)
    assert alone.probabilities != predictions[0].probabilities
    recipe = json.loads((trained.checkpoint() / "recipe.json").read_bytes())
    assert recipe["postprocess_states"][0]["weight"] > 0


def test_an_exported_network_contains_the_views(trained: Run, tmp_path: Path) -> None:
    exported = export_model(trained, tmp_path / "model", format="torch-export")
    assert exported.comparisons[0].difference < 1e-5
    again = Predictor.load(tmp_path / "model", "cpu")
    assert again.recipe.tta == "flips"
