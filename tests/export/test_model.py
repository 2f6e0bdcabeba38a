"""Exported models, judged by ONNX Runtime and by PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightx
from sightx import Predictor, Run, RunError, SpecError
from sightx.export import graph
from sightx.export.model import export_model
from support.commands import sightx_main


def images(data: Path) -> list[Path]:
    return sorted((data / "test").rglob("*.png"))


def shares(predictor: Predictor, files: list[Path]) -> np.ndarray[Any, Any]:
    predictions = predictor.predict_all(files)
    return np.array([[share.probability for share in one.probabilities] for one in predictions])


@pytest.mark.parametrize("size", [1, 3, 8, 11])
def test_the_onnx_file_maps_pixels_to_the_probabilities_of_pytorch(
    trained: Run, exported: Path, data: Path, size: int
) -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(exported / "model.onnx")
    predictor = Predictor.load(trained.directory, "cpu")
    files = images(data)[:size]
    pixels = torch.stack([predictor.preprocess(file) for file in files]).numpy()
    (probabilities,) = session.run(["probabilities"], {"images": pixels})
    np.testing.assert_allclose(probabilities, shares(predictor, files), atol=1e-5)


def test_both_engines_predict_what_the_run_predicts(
    trained: Run, exported: Path, data: Path
) -> None:
    expected = Predictor.load(trained.directory, "cpu").predict_all(images(data))
    torch_answers = Predictor.load(exported, "cpu").predict_all(images(data))
    assert torch_answers == expected
    onnx = Predictor.load(exported, engine="onnx")
    np.testing.assert_allclose(
        shares(onnx, images(data)),
        shares(Predictor.load(trained.directory, "cpu"), images(data)),
        atol=1e-5,
    )
    answers = onnx.predict_all(images(data))
    assert [one.class_name for one in answers] == [one.class_name for one in expected]
    assert (answers[0].model.engine, answers[0].model.id) == ("onnx", expected[0].model.id)


def test_an_exported_model_is_scored_with_the_data_of_its_run(
    trained: Run, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(trained.directory.parent)
    words = ["evaluate", str(exported), "--engine", "onnx", "--runs", runs]
    assert sightx_main(*words) == 0
    name = f"test@{trained.checkpoint().name}-exported-onnx"
    table = trained.predictions_of(name)
    own = trained.predictions_of("test")
    assert table.keys == own.keys
    assert (table.decisions == own.decisions).all()
    np.testing.assert_allclose(table.probabilities, own.probabilities, atol=1e-5)
    lines = capsys.readouterr().out.splitlines()
    values = dict(line.split()[:2] for line in lines if line.startswith("test/"))
    assert float(values["test/accuracy"]) == pytest.approx(
        trained.result["test"]["test/accuracy"], abs=1e-4
    )


def test_the_manifest_has_the_hash_of_every_file(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_bytes())
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*.*")}
    assert files == {"manifest.json", *manifest["files"]}
    for name, entry in manifest["files"].items():
        content = (exported / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


@pytest.mark.parametrize("file", ["model.safetensors", "recipe.json", "model.onnx"])  # X12
def test_one_changed_byte_is_refused(exported: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(RunError, match=file) as caught:
        Predictor.load(folder, "cpu", engine="onnx" if file.endswith("onnx") else "torch")
    assert caught.value.exit_code == 5


def test_the_descriptions_say_what_the_recipe_says(trained: Run, exported: Path) -> None:
    labels = json.loads((exported / "labels.json").read_bytes())
    assert (labels["classes"], labels["ordered"]) == (["dark", "light"], True)
    states = json.loads((trained.checkpoint() / "recipe.json").read_bytes())["postprocess_states"]
    assert [step["fitted"] for step in labels["postprocess"]] == states
    preprocess = json.loads((exported / "preprocess.json").read_bytes())
    assert preprocess["input"]["shape"] == ["batch", 3, 16, 16]
    assert preprocess["steps"][0]["use"] == "resize"


def test_an_existing_folder_is_refused(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="exists"):
        export_model(trained, tmp_path, format="safetensors")


def test_a_network_that_differs_from_pytorch_is_not_written(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        probabilities, outputs = forward(self, pixels)
        return probabilities.flip(1), outputs

    forward = graph.PixelsToProbabilities.forward
    monkeypatch.setattr(graph.PixelsToProbabilities, "forward", wrong)
    with pytest.raises(RunError, match="not-equal") as caught:
        export_model(trained, tmp_path / "model", format="torch-export")
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_folder_and_checks_it(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = str(tmp_path / "my model"), str(trained.directory)
    assert sightx_main("export", run, "--to", folder, "--format", "torch-export") == 0
    out = capsys.readouterr().out
    assert "model.pt2: 12 images in batches of 1, 3, 8" in out
    (check,) = re.findall(r"can be moved; sightx (.*) compares its answers anywhere", out)
    assert sightx_main(*shlex.split(check)) == 0
    assert "torch: largest difference of a golden probability" in capsys.readouterr().out
    assert sightx_main("export", run) == 2
    assert "--to FOLDER" in capsys.readouterr().err


def test_other_formats(trained: Run, tmp_path: Path, data: Path) -> None:
    export = export_model(trained, tmp_path / "graph", format="torch-export")
    assert export.comparisons[0].same_decisions == 12
    program = torch.export.load(tmp_path / "graph" / "model.pt2").module()
    predictor = Predictor.load(trained.directory, "cpu")
    pixels = torch.stack([predictor.preprocess(file) for file in images(data)[:5]])
    expected = shares(predictor, images(data)[:5])
    np.testing.assert_allclose(program(pixels)[0].detach(), expected, atol=1e-5)
    export_model(trained, tmp_path / "weights", format="safetensors")
    assert not list((tmp_path / "weights").glob("model.[op]*"))
    assert (shares(Predictor.load(tmp_path / "weights", "cpu"), images(data)[:5]) == expected).all()
    with pytest.raises(RunError, match="no-onnx"):
        Predictor.load(tmp_path / "weights", engine="onnx")


def test_a_file_with_another_hash_is_refused(exported: Path, data: Path, tmp_path: Path) -> None:
    copied = copy_of(exported, tmp_path, {"model.onnx": b"other"})
    with pytest.raises(RunError, match=r"model\.onnx differs from its hash"):
        Predictor.load(copied, engine="onnx")
    assert Predictor.load(copied, "cpu").predict(images(data)[0])


def test_errors_of_exported_models_lead_to_answers(
    trained: Run, exported: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, image, folder = str(trained.directory), str(images(data)[0]), str(tmp_path / "new")
    damaged = copy_of(exported, tmp_path / "a", {"recipe.json": b"{}"})
    assert sightx_main("predict", run, image, "--engine", "onnx") == 5
    assert sightx_main("predict", str(damaged), image) == 5
    no_onnx, other = re.findall(r"sightx (export .*?) writes", capsys.readouterr().err)
    assert other == no_onnx.removesuffix(" --format onnx")
    words = shlex.split(no_onnx.replace("RUN", shlex.quote(run)).replace("FOLDER", folder))
    assert sightx_main(*words) == 0
    assert sightx_main("predict", folder, image, "--engine", "onnx") == 0
    manifest = json.loads((exported / "manifest.json").read_bytes())
    digest = hashlib.sha256(b"other").hexdigest()
    manifest["files"]["model.onnx"] = {"size": 5, "sha256": digest}
    files = {"model.onnx": b"other", "manifest.json": json.dumps(manifest).encode()}
    newer = str(copy_of(exported, tmp_path / "b", files))
    assert sightx_main("predict", newer, image, "--engine", "onnx") == 7
    assert "use --engine torch" in capsys.readouterr().err
    assert sightx_main("predict", newer, image, "--engine", "torch") == 0


def copy_of(folder: Path, tmp_path: Path, changes: Mapping[str, bytes]) -> Path:
    """Return a copy of an exported model with other contents of some files."""
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    for name, content in changes.items():
        (copied / name).write_bytes(content)
    return copied


def test_images_of_every_mode_get_equal_answers_from_both_engines(
    exported: Path, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    grey = image.convert("L")
    variants: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "turned.jpeg": (image, {"exif": exif}),
        "cmyk.jpeg": (image.convert("CMYK"), {}),
        "palette.png": (image.quantize(16), {}),
        "grey.png": (grey, {}),
        "deep.png": (Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), {}),
        "alpha.png": (image.convert("RGBA"), {}),
    }
    for name, (variant, options) in variants.items():
        variant.save(tmp_path / name, **options)
    files = [tmp_path / name for name in variants]
    one, other = (sightx.Predictor.load(exported, "cpu", engine=e) for e in ("torch", "onnx"))
    np.testing.assert_allclose(shares(one, files), shares(other, files), atol=1e-5)


def test_onnx_runtime_reports_nothing_to_its_makers(exported: Path, tmp_path: Path) -> None:
    code = f"import sightx; sightx.Predictor.load({str(exported)!r}, engine='onnx')"
    environment = {key: value for key, value in os.environ.items() if key[:4] != "ORT_"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment | home)
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name] == []
