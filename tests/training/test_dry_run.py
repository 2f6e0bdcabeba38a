from __future__ import annotations

from pathlib import Path

import pytest

import sightx
from sightx import DataError, SpecError
from sightx.training.dry_run import dry_run


def test_counts_shapes_and_weights_are_those_of_the_run(spec: Path, tmp_path: Path) -> None:
    result = dry_run(sightx.load(spec))
    run = sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    assert dict(result.counts) == run.data["counts"]
    assert list(result.classes) == run.data["classes"]
    assert (result.weights, result.trainable) == (run.data["weights"], run.data["trainable"])
    assert result.shape == (8, 3, 8, 8)
    assert result.outputs == (8, 2)


def test_memory_is_weights_gradients_moments_and_activations(spec: Path) -> None:
    result = dry_run(sightx.load(spec))
    weights = 192 * 6 + 6 + 6 * 2 + 2
    moments = 2 * weights + 4  # Adam keeps two of each, and a step a tensor
    saved = 8 * 192 + 8 * 6 * 2  # the flat input, and a hidden layer before and after the ReLU
    assert result.memory == pytest.approx(4 * (2 * weights + moments + saved), rel=0.05)


def test_resnet50_with_a_frozen_trunk_trains_16_million_weights(spec: Path) -> None:
    sets = ["model={use='resnet50', trainable=['layer4', 'head']}", "preprocess.resize.size=64"]
    result = dry_run(sightx.load(spec, sets))
    assert result.trainable == 16_016_389 - 3 * 513  # two classes here
    assert result.weights > 23_000_000
    unfrozen = dry_run(sightx.load(spec, [*sets, "model.trainable=[]"]))
    assert unfrozen.memory > result.memory


def test_missing_images_are_counted_and_the_first_is_named(spec: Path, folders: Path) -> None:
    csv = folders / "labels.csv"
    csv.write_text("image,label\ntrain/dark/0.png,dark\ntrain/dark/gone.png,light\n")
    sets = ["dataset={use='csv', root='.'}", "split={use='stratified', validation=0.0, test=0.0}",
            "training.monitor=train/loss"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folders)
        experiment = sightx.load(spec, sets)
    with pytest.raises(DataError, match=r"1 of 2 images are missing; first: train/dark/gone\.png"):
        dry_run(experiment)


def test_images_too_small_for_the_network_are_refused(spec: Path) -> None:
    with pytest.raises(SpecError, match="too small"):
        dry_run(sightx.load(spec, ["model={use='simple-cnn', widths=[4, 4, 4, 4]}"]))
