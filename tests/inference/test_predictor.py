from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import sightx
from sightx import DataError, NonFiniteError, PluginError, Predictor, Run, RunError


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> Run:
    return sightx.run(sightx.load(spec), runs=tmp_path / "runs")


def shares(prediction: Any) -> list[float]:
    """Return the probabilities of a prediction."""
    return [share.probability for share in prediction.probabilities]


def by_hand(run: Run, file: Path) -> np.ndarray:
    """Predict with plain PyTorch, from the numbers in the run alone."""
    weights = load_file(run.checkpoint() / "model.safetensors")
    layers = [nn.Linear(w.shape[1], w.shape[0]) for n, w in weights.items() if w.ndim == 2]
    names = [name.removesuffix(".weight") for name, w in weights.items() if w.ndim == 2]
    pairs = sorted(zip(names, layers, strict=True), key=lambda pair: pair[0] == "head")
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    pixels = np.array(Image.open(file).convert("RGB"))
    x = ((torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std).flatten()
    for name, layer in pairs:
        layer.load_state_dict({k: weights[f"{name}.{k}"] for k in ("weight", "bias")})
        x = layer(x) if name == "head" else torch.relu(layer(x))
    return x.softmax(0).detach().numpy()


def test_predictions_are_those_of_plain_pytorch(run: Run, folders: Path) -> None:
    predictor = Predictor.load(run.directory, "cpu")
    for file in sorted(folders.rglob("*.png"))[::7]:
        prediction = predictor.predict(file)
        expected = by_hand(run, file)
        np.testing.assert_allclose(shares(prediction), expected, atol=1e-5)
        assert prediction.class_name == ["dark", "light"][expected.argmax()]


def test_bytes_files_paths_and_pil_images_give_the_same_prediction(run: Run, folders: Path) -> None:
    file = folders / "test" / "dark" / "0.png"
    predictor = Predictor.load(run.directory, "cpu")
    content = file.read_bytes()
    inputs = [file, str(file), content, io.BytesIO(content), Image.open(file)]
    inputs.append(np.array(Image.open(file)))
    first, *others = [predictor.predict(image) for image in inputs]
    assert all(prediction == first for prediction in others)


def test_a_batch_gives_the_predictions_of_its_images(run: Run, folders: Path) -> None:
    files = sorted(folders.rglob("*.png"))[:8]
    predictor = Predictor.load(run.directory, "cpu")
    for one, other in zip(predictor.predict_all(files), map(predictor.predict, files), strict=True):
        np.testing.assert_allclose(shares(one), shares(other), atol=1e-6)


def test_the_bits_are_those_of_an_evaluation_with_batches_of_one(
    spec: Path, folders: Path, tmp_path: Path
) -> None:
    run = sightx.run(sightx.load(spec, ["training.batch_size=1", "training.epochs=1"]),
                     runs=tmp_path / "runs")  # fmt: skip
    table, predictor = run.predictions_of("test"), Predictor.load(run.directory, "cpu")
    for path, row in zip(table.keys, table.probabilities, strict=True):
        assert shares(predictor.predict(folders / path)) == row.tolist()


def test_threads_get_the_predictions_of_one_thread(run: Run, folders: Path) -> None:
    files = sorted(folders.rglob("*.png")) * 4
    predictor = Predictor.load(run.directory, "cpu")
    expected = [predictor.predict(file) for file in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predictor.predict, files)) == expected


def test_the_record_names_the_model_and_keeps_the_order_of_the_classes(
    run: Run, folders: Path
) -> None:
    prediction = Predictor.load(run.directory, "cpu").predict(folders / "test" / "dark" / "0.png")
    weights = (run.checkpoint() / "model.safetensors").read_bytes()
    record = prediction.to_json()
    assert record == {
        "format": 1,
        "outcome": "graded",
        "class": "dark",
        "probabilities": [
            {"class": name, "probability": value}
            for name, value in zip(("dark", "light"), shares(prediction), strict=True)
        ],
        "model": {
            "id": f"{run.id}@{run.checkpoint().name}",
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "experiment_sha256": run.environment["id"],
            "engine": "torch",
        },
    }


def test_an_output_that_is_not_finite_is_an_error(run: Run, folders: Path) -> None:
    predictor = Predictor.load(run.directory, "cpu")
    next(predictor.module.parameters()).data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="not finite"):
        predictor.predict(folders / "test" / "dark" / "0.png")


def test_prediction_imports_neither_pandas_nor_matplotlib(run: Run, folders: Path) -> None:
    code = (
        "import sys, sightx\n"
        f"p = sightx.Predictor.load({str(run.directory)!r}, 'cpu')\n"
        f"assert p.predict({str(folders / 'test' / 'dark' / '0.png')!r}).class_name == 'dark'\n"
        "print({'pandas', 'matplotlib', 'rich', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_rotated_photograph_is_predicted_as_the_upright_one(
    run: Run, folders: Path, orientation: int
) -> None:
    upright = Image.open(folders / "test" / "dark" / "0.png")
    degrees = {3: 180, 6: 90, 8: 270}[
        orientation
    ]  # how a camera stores it before a viewer rotates it back
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    upright.rotate(degrees, expand=True).save(buffer, "PNG", exif=exif)
    predictor = Predictor.load(run.directory, "cpu")
    assert predictor.predict(buffer.getvalue()) == predictor.predict(upright)


def test_the_run_directory_alone_is_enough(run: Run, folders: Path, tmp_path: Path) -> None:
    file = tmp_path / "kept.png"
    shutil.copy(folders / "test" / "light" / "0.png", file)
    before = shares(Predictor.load(run.directory, "cpu").predict(file))
    moved = run.directory.rename(tmp_path / "elsewhere")
    shutil.rmtree(folders)
    (moved / "experiment.toml").write_text("")
    assert shares(Predictor.load(moved, "cpu").predict(file)) == before
    checkpoint = next((moved / "checkpoints").glob("step-*"))
    assert Predictor.load(checkpoint, "cpu").recipe.classes == ("dark", "light")


def test_classes_keep_the_order_of_the_spec(
    folders: Path, write_spec: Callable[..., Path], spec: Path, tmp_path: Path
) -> None:
    sets = ['dataset.classes=["light", "dark"]']
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    prediction = Predictor.load(run.directory, "cpu").predict(folders / "test" / "dark" / "0.png")
    assert [share.class_name for share in prediction.probabilities] == ["light", "dark"]
    assert prediction.class_name == "dark"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty file"), (b"<html></html>", "not an image")]
)
def test_a_file_that_is_not_an_image_is_a_data_error(
    run: Run, tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "bad.jpg"
    file.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        Predictor.load(run.directory, "cpu").predict(file)
    assert "bad.jpg" in str(caught.value)


def test_a_missing_file_is_a_data_error(run: Run) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        Predictor.load(run.directory, "cpu").predict("nowhere.png")


def test_a_component_that_is_not_installed_is_a_plugin_error(run: Run) -> None:
    recipe = run.checkpoint() / "recipe.json"
    from sightx.inference.recipe import Recipe
    from sightx.registry import loading, project

    text = recipe.read_bytes().replace(b'"simplenet"', b'"gone-net"')
    registry = loading.load_registry(project.find_project(Path.cwd()))
    with pytest.raises(PluginError, match="gone-net"):
        Recipe.read(text, registry, "recipe.json")


def test_an_error_for_weights_of_another_shape_names_the_tensor(
    run: Run, spec: Path, tmp_path: Path
) -> None:
    other = sightx.run(sightx.load(spec, ["model.hidden=[7]"]), runs=tmp_path / "runs")
    weights = other.checkpoint() / "model.safetensors"
    with pytest.raises(RunError) as caught:
        sightx.run(sightx.load(spec, [f"model.weights={weights}"]), runs=tmp_path / "runs")
    message = caught.value.problems[0].message  # a long path cuts the printed line
    assert "3 differ in shape (hidden1.weight: 7x192, not 6x192)" in message
