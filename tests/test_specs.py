"""Every shipped spec runs, on generated data."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sightx
from sightx import Predictor, Run

SPECS = Path(__file__).parents[1] / "specs"


def execute(spec: str, tmp_path: Path, *sets: str) -> Run:
    return sightx.run(sightx.load(SPECS / spec, sets), runs=tmp_path / "runs")


def photographs(root: Path, names: list[str], suffix: str = ".jpeg") -> None:
    """Write small discs on black, one per name; they differ between folders."""
    rng = np.random.default_rng([*root.parent.name.encode(), *root.name.encode()])
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    for name in names:
        pixels = (x**2 + y**2 < 0.8)[..., None] * rng.uniform(60, 200, 3)
        path = root / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def eyepacs(tmp_path: Path) -> Path:
    """Thirty patients in the form of the competition's data."""
    root = tmp_path / "eyepacs"
    names = [f"{patient}_{eye}" for patient in range(30) for eye in ("left", "right")]
    photographs(root / "train", names)
    levels = [patient % 5 for patient in range(30) for _ in range(2)]
    pd.DataFrame({"image": names, "level": levels}).to_csv(root / "trainLabels.csv", index=False)
    return root


@pytest.mark.parametrize("spec", sorted(path.name for path in SPECS.glob("*.toml")))
def test_every_spec_is_valid_and_begins_with_a_description(spec: str) -> None:
    experiment = sightx.load(SPECS / spec)
    assert experiment.name == spec.removesuffix(".toml").replace("_", "-")
    head = (SPECS / spec).read_text().splitlines()
    assert head[0] == "#:schema ../sightx.schema.json"
    assert head[1].startswith("# ")
    is_of_retinas = experiment.dataset.name == "eyepacs"
    assert (experiment.quality is not None) == is_of_retinas


def test_the_eyepacs_recipe_is_that_of_the_source() -> None:
    experiment = sightx.load(SPECS / "eyepacs_resnet50.toml")
    tables = experiment.tables()
    assert tables["training"] == {
        "epochs": 20, "batch_size": 32, "monitor": "validation/accuracy", "precision": "fp32",
        "clip_grad_norm": 0.0,
    }  # fmt: skip
    assert (tables["optimizer"]["use"], tables["optimizer"]["lr"]) == ("adam", 1e-4)
    assert tables["scheduler"] == {"use": "step", "warmup": 0.0, "step_size": 7, "gamma": 0.1}
    assert tables["loss"]["use"] == "inverse-frequency-cross-entropy"
    assert tables["checkpoint"][0] == {"use": "best"}


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ("eyepacs_resnet50.toml", "resize.size=32"),
        ("eyepacs_local_average.toml", "subtract-local-average.radius=18"),
    ],
)
def test_eyepacs(spec: str, size: str, eyepacs: Path, tmp_path: Path) -> None:
    sets = [f"dataset.root={eyepacs}", "model.weights=none", f"preprocess.{size}",
            "training.epochs=1"]  # fmt: skip
    run = execute(spec, tmp_path, *sets)
    assert run.data["trainable"] == 16_016_389
    assert run.data["classes"] == ["none", "mild", "moderate", "severe", "proliferative"]
    split = pd.read_csv(run.directory / "split.csv", dtype=str)
    assert (split.groupby("group").split.nunique() == 1).all()
    assert set(split.split) == {"train", "validation", "test"}
    assert "test/qwk" in run.result["test"]
    predictor = Predictor.load(run.directory, "cpu")
    assert predictor.predict(np.zeros((48, 64, 3), np.uint8)).outcome == "ungradable"
    training = split.path[split.split == "train"].iloc[0]
    assert predictor.predict(eyepacs / "train" / training).outcome == "graded"


def test_catfish(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for name in ("cat", "fish"):
            photographs(tmp_path / "data" / split / name, ["a", "b", "c"], ".jpg")
    run = execute("catfish_simplenet.toml", tmp_path, f"dataset.root={tmp_path / 'data'}",
                  "training.epochs=2")  # fmt: skip
    assert run.data["weights"] == 12288 * 84 + 84 + 84 * 50 + 50 + 50 * 2 + 2
    assert {"train/loss", "validation/loss", "validation/accuracy"} <= set(run.metrics.columns)
    assert "test/accuracy" in run.result["test"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_cifar10(tmp_path: Path, optimizer: str) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        labels = [n % 10 for n in range(20)]
        data = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=4))
    sets = [f"optimizer.use={optimizer}", "optimizer.lr=1e-3", "training.epochs=1"]
    run = execute("cifar10_cnn.toml", tmp_path, f"dataset.root={tmp_path}", *sets)
    assert [sum(run.data["counts"][split]) for split in ("train", "validation", "test")] == [
        100, 10, 10,
    ]  # fmt: skip


def test_cifar10_with_a_residual_network(tmp_path: Path) -> None:
    for split, count in (("train", 10), ("test", 2)):
        for name in ("airplane", "truck"):
            names = [f"{number:04}" for number in range(count)]
            photographs(tmp_path / "data" / split / name, names, ".jpg")
    sets = [f"dataset.root={tmp_path / 'data'}", "split.validation=0.2", "training.epochs=1",
            "training.batch_size=8"]  # fmt: skip
    run = execute("cifar10_resnet9.toml", tmp_path, *sets)
    assert [sum(counts) for counts in run.data["counts"].values()] == [16, 4, 4]
    assert "test/accuracy" in run.result["test"]
    assert run.checkpoint().name == run.checkpoints["last"]


def test_three_classes_stop_early_with_the_best_weights(tmp_path: Path) -> None:
    sets = ["dataset.patients=400", "dataset.size=32", "preprocess.resize.size=32",
            "optimizer.lr=1e-9", "stopping.patience=2", "scheduler.patience=1"]  # fmt: skip
    run = execute("three_class_early_stopping.toml", tmp_path, *sets)
    metrics = run.metrics
    assert {"train/loss", "train/accuracy", "validation/accuracy"} <= set(metrics.columns)
    assert run.result["status"] == "stopped"
    assert len(metrics) < 40
    assert len(run.data["classes"]) == 3
    best = int(metrics["validation/loss"].idxmin())
    assert run.result["epoch"] == best + 1
    again = run.result["validation"]["validation/loss"]
    assert again == pytest.approx(metrics["validation/loss"][best], rel=1e-6)
    assert (run.directory / "plots" / "curves.png").stat().st_size > 10_000
    alerts = (run.directory / "alerts.jsonl").read_text().splitlines()
    assert '"event": "stopped"' in alerts[-1]


def test_quickstart(tmp_path: Path) -> None:
    sets = [
        "dataset.patients=400",
        "training.epochs=2",
        "dataset.size=32",
        "preprocess.resize.size=32",
    ]
    run = execute("quickstart.toml", tmp_path, *sets)
    assert run.result["status"] == "finished"
    assert run.checkpoint().is_dir()


@pytest.mark.slow
def test_quickstart_clearly_beats_the_majority_class(tmp_path: Path) -> None:
    assert execute("quickstart.toml", tmp_path).result["test"]["test/qwk"] > 0.5


@pytest.mark.slow
def test_catfish_learns_on_the_real_pictures(shared: Path, tmp_path: Path) -> None:
    run = execute("catfish_simplenet.toml", tmp_path, f"dataset.root={shared / 'catfish64'}")
    assert run.result["test"]["test/balanced-accuracy"] > 0.75


def test_eyepacs_with_one_output(eyepacs: Path, tmp_path: Path) -> None:
    sets = [f"dataset.root={eyepacs}", "model.weights=none", "preprocess.resize.size=32",
            "training.epochs=1", "training.batch_size=32"]  # fmt: skip
    run = execute("eyepacs_efficientnet.toml", tmp_path, *sets)
    assert np.load(run.directory / "predictions" / "test.outputs.npy").shape[1] == 1
    assert {"test/qwk", "validation/qwk"} <= run.result["without_tta"].keys()
