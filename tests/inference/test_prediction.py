"""The record of an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from sightx import Predictor, Run
from sightx.inference.pairs import combine_eyes
from sightx.inference.prediction import (
    ClassProbability,
    Graded,
    ImageQuality,
    ModelId,
    Prediction,
    Ungradable,
)

MODEL = ModelId(id="run@step-00000001", weights_sha256="0" * 64)


def test_the_order_of_classes_survives_json() -> None:
    shares = tuple(ClassProbability(class_name=name, probability=0.5) for name in ("10", "9"))
    graded = Graded(grade=1, class_name="9", probabilities=shares, model=MODEL)
    record = json.loads(json.dumps(graded.to_json()))
    assert [share["class"] for share in record["probabilities"]] == ["10", "9"]
    assert (record["class"], record["grade"]) == ("9", 1)
    assert TypeAdapter(Prediction).validate_python(record) == graded


def test_an_ungradable_answer_cannot_hold_a_grade() -> None:
    quality = ImageQuality(verdict="ungradable", reasons=("low-brightness",))
    record = Ungradable(quality=quality, model=MODEL).to_json()
    assert record["outcome"] == "ungradable"
    assert not record.keys() & {"grade", "class", "probabilities"}
    with pytest.raises(ValidationError):
        TypeAdapter(Prediction).validate_python({**record, "grade": 0})


def test_the_decision_follows_the_thresholds_that_validation_has_chosen(
    trained: Run, data: Path
) -> None:
    predictor = Predictor.load(trained.directory, "cpu")
    recipe = json.loads((trained.checkpoint() / "recipe.json").read_bytes())
    thresholds = {
        point["name"]: point["threshold"] for point in recipe["binary"]["operating_points"]
    }
    assert set(thresholds) == {"high-sensitivity", "high-specificity"}
    images = sorted((data / "test").rglob("*.png"))
    eyes = [predictor.predict(image) for image in images]
    for eye in eyes:
        assert isinstance(eye, Graded)
        assert eye.decision
        assert eye.decision.positive == ("light",)
        assert eye.decision.score == eye.probabilities[1].probability
        points = eye.decision.operating_points
        assert {point.name: point.threshold for point in points} == thresholds
        assert all(point.is_positive == (eye.decision.score >= point.threshold) for point in points)
    assert len({point.is_positive for eye in eyes for point in eye.decision.operating_points}) == 2
    patient = combine_eyes("a", eyes[0], eyes[-1])
    assert patient.decision == max((eyes[0], eyes[-1]), key=lambda eye: eye.decision.score).decision
    assert combine_eyes("a", eyes[0], None).decision == eyes[0].decision
