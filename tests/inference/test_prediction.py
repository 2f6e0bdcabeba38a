"""The record of an answer."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter, ValidationError

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
