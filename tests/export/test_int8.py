"""Networks in 8-bit integers, judged by ONNX Runtime and by PyTorch."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sightx
from sightx import Predictor, Run, RunError, SpecError
from sightx.evaluation.intervals import Interval
from sightx.export.int8 import Int8Cost, calibration_images, quantize
from sightx.export.model import export_model
from sightx.runner.evaluate import load_run_split
from support.commands import sightx_main
from support.models import write_tiny_spec

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a network with a convolution between the first and the last layer."""
    spec = write_tiny_spec(tmp_path_factory.mktemp("int8"))
    return sightx.run(sightx.load(spec, ["model.widths=[4,8]"]), runs=spec.parent / "runs")


@pytest.fixture(scope="module")
def int8(deep: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    words = ("export", str(deep.directory), "--to", str(folder), "--int8", "--int8-loss", "0.2")
    assert sightx_main(*words) == 0
    return folder


def shares(predictor: Predictor, files: list[Path]) -> np.ndarray[Any, Any]:
    return np.array(
        [[one.probability for one in predictor.predict(file).probabilities] for file in files]
    )


def test_inner_layers_are_quantised_per_channel_and_the_answers_are_nearly_those_of_pytorch(
    deep: Run, int8: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = onnx.load(int8 / "model.int8.onnx")
    scales = [tensor for tensor in network.graph.initializer
              if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4]  # fmt: skip
    assert [list(tensor.dims[:2]) for tensor in scales] == [[8, 4]]  # the second convolution alone
    sizes = {len(tensor.dims) and tensor.dims[0] for tensor in network.graph.initializer
             if "scale" in tensor.name}  # fmt: skip
    assert 8 in sizes
    files = sorted((deep.directory.parents[1] / "data" / "test").rglob("*.png"))
    one, other = (Predictor.load(int8, "cpu", engine=engine) for engine in ("torch", "int8"))
    difference = np.abs(shares(one, files) - shares(other, files)).max()
    assert 0 < difference < 0.05
    assert other.predict(files[0]).model.engine == "int8"
    assert sightx_main("export", "--check", str(int8)) == 0
    assert "int8: largest difference of a golden probability" in capsys.readouterr().out


def test_the_cost_is_that_of_both_tables(deep: Run, int8: Path) -> None:
    parity, cost = json.loads((int8 / "parity.json").read_bytes())["comparisons"]
    assert (parity["name"], cost["name"]) == ("model.onnx", "model.int8.onnx")
    validation = sorted((deep.directory.parents[1] / "data" / "val").rglob("*.png"))
    labels = np.array([file.parent.name == "light" for file in validation])
    decisions = [
        np.array([Predictor.load(int8, "cpu", engine=engine).predict(file).grade
                  for file in validation])
        for engine in ("torch", "int8")
    ]  # fmt: skip

    from sklearn.metrics import cohen_kappa_score

    kappas = [cohen_kappa_score(labels, d, weights="quadratic") for d in decisions]
    assert cost["metric"] == "qwk"
    assert cost["value"] == pytest.approx(kappas[0])
    assert cost["difference"]["value"] == pytest.approx(kappas[1] - kappas[0])
    assert cost["changed_decisions"] == (decisions[0] != decisions[1]).sum()
    assert cost["images"] == 12
    assert set(cost["milliseconds"]) == {"PyTorch", "model.onnx", "model.int8.onnx"}
    assert "model.int8.onnx: qwk" in (int8 / "README.md").read_text()


def test_a_network_that_loses_too_much_is_not_written(deep: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="int8-loss") as caught:
        export_model(deep, tmp_path / "model", int8_loss=-1)  # which no network can keep
    assert caught.value.exit_code == 5
    assert "leave out --int8, or allow more with --int8-loss" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SpecError, match=r"only an ONNX file is quantised.*leave out --format"):
        export_model(deep, tmp_path / "model", format="safetensors", int8_loss=0.01)


def test_the_worse_end_of_the_interval_must_be_within_the_limit() -> None:
    difference = Interval(0.0, -0.01, 0.2, "bootstrap")
    cost = Int8Cost("a", 9, "qwk", "max", 0.8, difference, 0, {})
    assert cost.checked(0.01) is cost
    assert replace(cost, direction="min").checked(0.2)
    undefined = replace(cost, difference=Interval(0.0, math.nan, math.nan, "bootstrap"))
    reason = "every resample gives the same difference"
    same = replace(cost, difference=Interval(-0.01, math.nan, math.nan, "bootstrap", reason))
    assert f"difference -0.0100 (no interval: {reason})" in str(same.checked(0.01))
    assert same.to_json()["difference"]["low"] is None
    for bad, limit in (
        (same, 0.009),
        (cost, 0.009),
        (undefined, 1.0),
        (replace(cost, direction="min"), 0.1),
    ):
        with pytest.raises(RunError, match="int8 may lose"):
            bad.checked(limit)


def test_ranges_come_from_one_training_image_per_group(deep: Run) -> None:
    data = load_run_split(deep, "train")
    assert len(calibration_images(data)) == 24
    frame = data.table.frame.assign(group=["a", "b"] * 12)
    grouped = replace(data, table=data.table.with_frame(frame))
    chosen = calibration_images(grouped)
    assert torch.equal(chosen, data.rows.gather(np.array([0, 1])))


def test_a_network_without_inner_layers_stays_as_it_is(trained: Run, exported: Path) -> None:
    pixels = torch.zeros((2, 3, 16, 16), dtype=torch.uint8)
    assert quantize((exported / "model.onnx").read_bytes(), pixels)
    with pytest.raises(RunError, match="sightx export RUN --to FOLDER --int8 writes one"):
        Predictor.load(exported, engine="int8")
