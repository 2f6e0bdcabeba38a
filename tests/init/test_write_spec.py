from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from sightx.init.write_spec import DatasetFacts, write_spec

FACTS = DatasetFacts(
    name="a",
    source="data",
    dataset={"use": "image-folder", "root": "data"},
    reasons={"root": "because # \n of this"},
    classes=("x", "y"),
    counts=(500, 500),
    ordered=False,
    samples=1000,
    splits={},
    groups=0,
    rarest=500,
    size=(300, 400),
    grey=False,
)


def written(**changes: Any) -> dict[str, Any]:
    return tomllib.loads(write_spec(replace(FACTS, **changes)))


@pytest.mark.parametrize(
    ("height", "width", "samples", "size"),
    [(20, 20, 1000, 32), (300, 400, 1000, 256), (3000, 2000, 1000, 512),
     (3000, 2000, 35126, 192), (33, 100, 10, 32)],
)  # fmt: skip
def test_the_size_is_what_the_images_have_and_memory_holds(
    height: int, width: int, samples: int, size: int
) -> None:
    spec = written(size=(height, width), samples=samples)
    assert spec["preprocess"] == [{"use": "resize", "size": size}]
    assert 8 <= size >> len(spec["model"]["widths"]) <= 16


@pytest.mark.parametrize(
    ("samples", "epochs", "batch"), [(10, 100, 3), (400, 100, 8), (1000, 30, 8), (90000, 10, 64)]
)
def test_more_data_need_fewer_epochs_and_larger_batches(
    samples: int, epochs: int, batch: int
) -> None:
    training = written(samples=samples)["training"]
    assert (training["epochs"], training["batch_size"]) == (epochs, batch)


def test_imbalance_weighs_and_grades_are_measured_by_qwk() -> None:
    assert written()["loss"]["use"] == "cross-entropy"
    spec = written(counts=(700, 300), ordered=True)
    assert spec["loss"]["use"] == "inverse-frequency-cross-entropy"
    assert spec["training"]["monitor"] == "validation/qwk"


@pytest.mark.parametrize(
    ("changes", "few"),
    [
        ({"samples": 480}, True),
        ({"splits": {"train": 900, "validation": 99}}, True),
        ({"splits": {"train": 990, "test": 500}}, True),
        ({"splits": {"train": 1000, "validation": 100}}, False),
        ({"samples": 500}, False),
    ],
)
@pytest.mark.parametrize("ordered", [False, True])
def test_few_validation_samples_are_judged_by_the_loss(
    changes: dict[str, Any], few: bool, ordered: bool
) -> None:
    text = write_spec(replace(FACTS, **changes, ordered=ordered)).replace("\n# ", " ")
    metric = "qwk" if ordered else "balanced-accuracy"
    assert f'monitor = "validation/{"loss" if few else metric}"' in text
    assert (f"With fewer than 100 validation images {metric} has few values" in text) == few


@pytest.mark.parametrize(
    ("changes", "split"),
    [
        ({}, {"use": "stratified", "validation": 0.1, "test": 0.1}),
        ({"samples": 99}, {"use": "stratified", "validation": 0.2, "test": 0.2}),
        ({"rarest": 2}, {"use": "stratified", "validation": 0.1, "test": 0.0}),
        ({"groups": 30}, {"use": "grouped", "validation": 0.1, "test": 0.1}),
        ({"splits": {"train": 900, "test": 100}}, {"use": "given", "validation": 0.1}),
        ({"splits": {"train": 900, "validation": 100}}, {"use": "given"}),
    ],
)
def test_the_split_depends_on_the_data(changes: dict[str, Any], split: dict[str, Any]) -> None:
    assert written(**changes)["split"] == split


def test_comments_stay_comments() -> None:
    text = write_spec(replace(FACTS, source="a\nb = 1", classes=("x\n[y]", "ü")))
    assert set(tomllib.loads(text)) == set(written())
    assert max(map(len, text.splitlines())) <= 100


def test_many_classes_are_not_all_listed() -> None:
    names = tuple(f"class{n}" for n in range(50))
    text = write_spec(replace(FACTS, classes=names, counts=(1,) * 50)).replace("\n# ", " ")
    assert "class7 = 1, and 42 more" in text
