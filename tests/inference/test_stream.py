"""Many images in a stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import sightx
from sightx import DataError, NonFiniteError, Predictor
from sightx.inference.stream import predict_stream


@pytest.fixture
def predictor(spec: Path, tmp_path: Path) -> Predictor:
    run = sightx.run(sightx.load(spec, ["training.epochs=1"]), runs=tmp_path / "runs")
    return Predictor.load(run.directory, "cpu")


@pytest.mark.parametrize("batch_size", [1, 5])
def test_answers_have_the_order_of_the_images_and_bad_ones_stop_no_other(
    predictor: Predictor, folders: Path, tmp_path: Path, batch_size: int
) -> None:
    files = sorted(folders.rglob("*.png"))[:13]
    bad = {2: tmp_path / "missing.png", 7: tmp_path / "text.png"}
    bad[7].write_text("no image")
    images: list[Path] = [bad.get(number, file) for number, file in enumerate(files)]
    answers = list(predict_stream(predictor, images, batch_size=batch_size, threads=2))
    assert [answer.name for answer in answers] == list(map(str, images))
    for number, answer in enumerate(answers):
        if number in bad:
            assert isinstance(answer.error, DataError)
            assert answer.prediction is None
        elif batch_size == 1:
            assert answer.prediction == predictor.predict(files[number])
        else:
            assert answer.prediction.class_name == predictor.predict(files[number]).class_name


def test_only_a_few_images_are_taken_ahead(predictor: Predictor, folders: Path) -> None:
    taken = []

    def images() -> Iterator[Path]:
        for number in range(10_000):
            taken.append(number)
            yield folders / "test" / "dark" / "0.png"

    before = set(threading.enumerate())
    answers = predict_stream(predictor, images(), batch_size=4, threads=2)
    for _ in range(9):
        next(answers)
    assert len(taken) < 40
    answers.close()
    assert set(threading.enumerate()) <= before


def test_an_output_that_is_not_finite_is_the_answer_of_its_image_only(
    predictor: Predictor, folders: Path
) -> None:
    class NanForLight(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            light = images.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0] > 0
            return self.module(images).masked_fill(light, float("nan"))

    predictor.module = NanForLight(predictor.module)
    files = [folders / "test" / name / "0.png" for name in ("dark", "light", "dark")]
    answers = list(predict_stream(predictor, files, batch_size=3))
    assert [type(answer.error) for answer in answers] == [type(None), NonFiniteError, type(None)]
