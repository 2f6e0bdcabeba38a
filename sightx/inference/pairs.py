"""One grade per patient, from photographs of the left and the right eye."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sightx.data.csv_reader import read_rows
from sightx.errors import Problem, SpecError
from sightx.inference.prediction import (
    Graded,
    GradedPatient,
    PatientGrade,
    Prediction,
    UngradablePatient,
)
from sightx.inference.stream import Answer, predict_stream
from sightx.io.files import user_path

if TYPE_CHECKING:
    from sightx.inference.predictor import Predictor


class EyePair(NamedTuple):
    """The photographs of a patient's eyes; None where there is none."""

    patient: str
    left: Path | None
    right: Path | None


class PatientAnswer(NamedTuple):
    """The answer for a patient.

    Attributes:
        patient: The patient, as the list of pairs names it.
        grade: The grade; None if there is an error for every photograph.
        answers: The answers for the photographs of the eyes that have one.
    """

    patient: str
    grade: PatientGrade | None
    answers: Sequence[Answer]


def read_pairs(path: Path) -> list[EyePair]:
    """Return the rows of a CSV file with the columns patient, left and right.

    Paths are below the folder of the CSV file; an empty cell means that there is no photograph.
    Raises DataError.
    """

    def below(cell: str) -> Path | None:
        return path.parent / user_path(cell.strip()) if cell.strip() else None

    rows = read_rows(path, ["patient", "left", "right"])
    return [EyePair(patient, below(left), below(right)) for patient, left, right in rows]


def predict_pairs(
    predictor: Predictor, pairs: Sequence[EyePair], *, batch_size: int = 1, threads: int = 0
) -> Generator[PatientAnswer, None, None]:
    """Yield one answer per patient, in their order; see `predict_stream`.

    Raises SpecError if the classes are not ordered.
    """
    if not predictor.recipe.ordered:
        message = "a pair of eyes needs grades, and the classes of this run are not ordered"
        raise SpecError(Problem("not-ordered", message, "predict the images one by one"))
    images = (eye for pair in pairs for eye in (pair.left, pair.right) if eye)
    stream = predict_stream(predictor, images, batch_size=batch_size, threads=threads)
    with closing(stream):
        for pair in pairs:
            left = next(stream) if pair.left else None
            right = next(stream) if pair.right else None
            eyes = predictor.combine(_prediction(left), _prediction(right))
            answers = [
                answer._replace(prediction=eye)
                for answer, eye in zip((left, right), eyes, strict=True)
                if answer
            ]
            failed = bool(answers) and all(answer.error for answer in answers)
            grade = None if failed else combine_eyes(pair.patient, *eyes)
            yield PatientAnswer(pair.patient, grade, answers)


def combine_eyes(
    patient: str | None, left: Prediction | None, right: Prediction | None
) -> PatientGrade:
    """Return the grade of a patient: that of the worse eye, of the eyes that have a grade."""
    eyes = {
        name: eye for name, eye in (("left", left), ("right", right)) if isinstance(eye, Graded)
    }
    grades = {
        name: (eye.grade, eye.class_name) for name, eye in eyes.items() if eye.grade is not None
    }
    if not grades:
        return UngradablePatient(patient=patient, left=left, right=right)
    grade, class_name = max(grades.values())
    decisions = [eye.decision for eye in eyes.values() if eye.decision]
    return GradedPatient(
        patient=patient,
        grade=grade,
        class_name=class_name,
        decision=max(decisions, key=lambda decision: decision.score, default=None),
        eyes="both" if len(grades) == 2 else "left" if "left" in grades else "right",
        left=left,
        right=right,
    )


def _prediction(answer: Answer | None) -> Prediction | None:
    return answer.prediction if answer else None
