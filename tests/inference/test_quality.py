from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightx
from sightx import PluginError, Predictor, Run
from sightx.inference.pairs import combine_eyes
from sightx.inference.quality import QualityLimits, fit_limits, judge
from sightx.plugin import PixelRows, Quality
from support.commands import sightx_main
from support.models import write_tiny_spec


class Levels(Quality):
    """The mean of red, of which more is better, and that of green, of which less is better."""

    name = "levels"

    def values(self):
        return {"red": "max", "green": "min"}

    def measure(self, image):
        return {"green": float(image[..., 1].mean()), "red": float(image[..., 0].mean())}


def images(*colours: tuple[int, int]) -> torch.Tensor:
    """Return one image per colour (red, green), uint8 (N, 3, 2, 2)."""
    pixels = torch.zeros((len(colours), 3, 2, 2), dtype=torch.uint8)
    pixels[:, :2] = torch.tensor(colours, dtype=torch.uint8)[..., None, None]
    return pixels


def test_limits_are_quantiles_of_the_worse_end_of_the_training_images() -> None:
    rows = PixelRows.of(images(*((level, level) for level in range(1, 201)), *[(0, 255)] * 50))
    limits = fit_limits(Levels(poor=0.05, ungradable=0.01), rows, np.arange(200))
    assert {name: limit.model_dump() for name, limit in limits.items()} == {
        "red": {"poor": 10, "ungradable": 2},
        "green": {"poor": 191, "ungradable": 199},
    }
    of_few = fit_limits(Levels(), rows, np.arange(20, 40))["red"]
    assert (of_few.poor, of_few.ungradable) == (21, 21)


def test_a_verdict_names_what_is_beyond_a_limit_and_the_worst_first() -> None:
    limits = {
        "red": QualityLimits(poor=100, ungradable=50),
        "green": QualityLimits(poor=100, ungradable=150),
    }
    given = images((100, 100), (99, 100), (90, 140), (20, 140), (49, 250))
    verdicts = [(one.verdict, *one.reasons) for one in judge(Levels(), limits, given)]
    assert verdicts == [
        ("good",),
        ("poor", "low-red"),
        ("poor", "high-green", "low-red"),
        ("ungradable", "low-red", "high-green"),
        ("ungradable", "high-green", "low-red"),
    ]
    assert judge(Levels(), limits, given)[0].measures == {"red": 100.0, "green": 100.0}


def test_a_measure_that_is_missing_or_not_finite_is_a_fault_of_its_plugin() -> None:
    class Missing(Levels):
        def measure(self, image):
            return {"red": 1.0}

    class NotFinite(Levels):
        def measure(self, image):
            return {"red": 1.0, "green": float("nan")}

    for quality, message in ((Missing(), "did not return 'green'"), (NotFinite(), "finite floats")):
        with pytest.raises(PluginError, match=message):
            fit_limits(quality, PixelRows.of(images((1, 1))), np.arange(1))


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that judges quality by the measures of the audit."""
    spec = write_tiny_spec(tmp_path_factory.mktemp("quality"))
    sets = ["quality={use='fundus',poor=0.2,ungradable=0}"]
    return sightx.run(sightx.load(spec, sets), runs=spec.parent / "runs")


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_run_judges_new_images_by_its_training_images(
    judging: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, predictor = judging.directory.parents[1] / "data", Predictor.load(judging.directory)
    training = predictor.predict_all(sorted((data / "train").rglob("*.png")))
    assert {one.quality.verdict for one in training} == {"good", "poor"}
    plain = predictor.recipe.model_copy(update={"quality": None})
    without = Predictor(plain, predictor.module, predictor.device, predictor.model)
    grades = without.predict_all(sorted((data / "train").rglob("*.png")))
    assert [one.model_copy(update={"quality": None}) for one in training] == grades

    black = tmp_path / "black.png"
    black.write_bytes(png(np.zeros((20, 24, 3), np.uint8)))
    record = predictor.predict(black).to_json()
    assert set(record) == {"format", "outcome", "quality", "model"}
    assert (record["outcome"], record["quality"]["verdict"]) == ("ungradable", "ungradable")
    assert "low-brightness" in record["quality"]["reasons"]
    assert record["quality"]["measures"]["sharpness"] == 0

    answers = tmp_path / "a.csv"
    files = map(str, (judging.directory, black, data / "train"))
    assert sightx_main("predict", *files, "--csv", str(answers)) == 0
    assert "24 graded, 1 ungradable" in capsys.readouterr().err
    row = answers.read_text().splitlines()[1]
    assert row.startswith(f"{black},ungradable,,,,,,,,ungradable,low-")


def test_both_eyes_are_judged_and_one_ungradable_eye_leaves_the_grade_of_the_other(
    judging: Run,
) -> None:
    predictor = Predictor.load(judging.directory)
    data = judging.directory.parents[1] / "data" / "train" / "light"
    black = png(np.zeros((20, 24, 3), np.uint8))
    eyes = predictor.predict(black), predictor.predict(data / "0.png")
    patient = combine_eyes(None, *predictor.combine(*eyes)).to_json()
    assert (patient["outcome"], patient["from"], patient["class"]) == ("graded", "right", "light")
    assert patient["left"]["outcome"] == "ungradable"
