from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sightx.plugin import as_torch_dataset
from sightx.testing import history, images, predictions, table
from sightx.testing.fixtures import run_experiment


def test_images_are_uint8_and_higher_classes_are_brighter() -> None:
    pixels, labels = images(30, (5, 7), channels=1, classes=3, seed=1)
    assert (tuple(pixels.shape), str(pixels.dtype)) == ((30, 1, 5, 7), "torch.uint8")
    means = [pixels[labels == number].float().mean() for number in range(3)]
    assert means == sorted(means)
    again, same = images(30, (5, 7), channels=1, classes=3, seed=1)
    assert pixels.equal(again)
    assert (labels == same).all()
    assert not pixels.equal(images(30, (5, 7), channels=1, classes=3, seed=2)[0])


def test_a_table_has_groups_of_one_class_and_one_split() -> None:
    result = table(90, 3)
    by_group = result.frame.groupby("group")
    assert set(by_group.size()) == {3}
    assert (by_group["label"].nunique() == 1).all()
    assert (by_group["split"].nunique() == 1).all()
    assert result.counts() == [30, 30, 30]
    assert set(result.frame["split"]) == {"train", "validation", "test"}
    image, label = as_torch_dataset(result)[0]
    assert tuple(image.shape) == (3, 8, 12)
    assert label == result.labels[0]


def test_a_table_may_lack_groups_and_split() -> None:
    result = table(12, 2, groups=False, split=False, ordered=True)
    assert set(result.frame["group"]) == {""}
    assert "split" not in result.frame
    assert result.ordered


def test_predictions_have_the_given_accuracy() -> None:
    result = predictions(40, 4, accuracy=0.75)
    assert (result.decisions == result.labels).mean() == 0.75
    assert (result.decisions == result.outputs.argmax(axis=1)).all()
    assert np.allclose(result.probabilities.sum(axis=1), 1)
    assert (predictions(accuracy=0.0).decisions != predictions(accuracy=0.0).labels).all()
    assert len(predictions(0)) == 0


def test_a_history_has_the_given_accuracies() -> None:
    result = history(0.5, math.nan, 0.7)
    assert result.series().best == 2
    loss = result.series("validation/loss")
    assert (loss.direction, loss.best) == ("min", 2)
    assert math.isnan(result.series("train/accuracy").values[1])


def test_an_experiment_is_run(tmp_path: Path) -> None:
    run = run_experiment(tmp_path, {})
    assert run.result["status"] == "finished"
    assert len(run.metrics) == 2
    counts = run.data["counts"]
    assert {split: sum(row) for split, row in counts.items()} == {
        "train": 8, "validation": 4, "test": 0,
    }  # fmt: skip
