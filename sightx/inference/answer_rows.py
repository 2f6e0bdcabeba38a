"""Answers as JSON records and as rows of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from sightx.errors import Problem, SpecError
from sightx.inference.pairs import PatientAnswer
from sightx.inference.stream import Answer
from sightx.io.csv_cells import escape_cell

_IMAGE_START, _PATIENT_START = b"path,outcome,", b"patient,outcome,"
_PATIENT = ("patient", "outcome", "grade", "class", "from", "left", "right", "error")


def record_of(answer: Answer | PatientAnswer) -> dict[str, Any]:
    """Return an answer as JSON values.

    The record of an image begins with `file`. Without a prediction its `outcome` is `error`, and
    `error` has the code and the message. For a patient, `errors` has such records, and the
    `outcome` is `error` if there are no others.
    """
    if isinstance(answer, PatientAnswer):
        errors = [one for one in answer.answers if one.error]
        failed = {"errors": [record_of(one) for one in errors]} if errors else {}
        if answer.grade is None:
            return {"format": 1, "patient": answer.patient, "outcome": "error", **failed}
        return answer.grade.to_json() | failed
    if answer.error:
        problem = answer.error.problems[0]
        error = {"code": problem.code, "message": problem.message}
        return {"file": answer.name, "format": 1, "outcome": "error", "error": error}
    assert answer.prediction  # noqa: S101 - one of the two is there
    return {"file": answer.name, **answer.prediction.to_json()}


def require_answers(file: Path) -> None:
    """Raise SpecError for a file that is not a CSV file of answers, which others may replace."""
    if not file.is_file():
        return
    with file.open("rb") as existing:
        start = existing.read(len(_PATIENT_START))
    if not start or start.startswith((_IMAGE_START, _PATIENT_START)):
        return
    hint = "name another file; only answers of sightx predict are replaced"
    raise SpecError(Problem("usage", f"{file} is not a CSV file of answers", hint))


class CsvAnswers:
    """Write records as rows of a CSV file, which is complete up to the last answer."""

    def __init__(
        self,
        file: TextIO,
        classes: Sequence[str],
        *,
        points: Sequence[str] = (),
        patients: bool = False,
    ) -> None:
        """Write the header; `file` is opened with `newline=""`.

        `points` are the names of the operating points of a binary decision; () for none.
        """
        self._file = file
        shares = [f"p:{name}" for name in classes]
        decision = ["score", *points] if points else []
        quality = ["quality", "reasons", "error"]
        images = ["path", "outcome", "grade", "class", *shares, *decision, *quality]
        self._header = [*_PATIENT[:-1], *decision, _PATIENT[-1]] if patients else images
        self._patients = patients
        self._writer = csv.writer(file, lineterminator="\n")
        self._write(self._header)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one row."""
        values = _patient_values(record) if self._patients else _image_values(record)
        self._write([values.get(name, "") for name in self._header])

    def _write(self, cells: Sequence[Any]) -> None:
        self._writer.writerow([escape_cell(cell) for cell in cells])
        self._file.flush()


def _image_values(record: Mapping[str, Any]) -> dict[str, Any]:
    quality, error = record.get("quality", {}), record.get("error", {})
    return {
        "path": record["file"],
        **{key: record[key] for key in ("outcome", "grade", "class") if key in record},
        **{f"p:{one['class']}": one["probability"] for one in record.get("probabilities", ())},
        **_decision_values(record),
        "quality": quality.get("verdict", ""),
        "reasons": " ".join(quality.get("reasons", ())),
        "error": error.get("message", ""),
    }


def _decision_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score, and 1 or 0 at each operating point."""
    decision = record.get("decision")
    if decision is None:
        return {}
    points = {one["name"]: int(one["is_positive"]) for one in decision["operating_points"]}
    return {"score": decision["score"], **points}


def _patient_values(record: Mapping[str, Any]) -> dict[str, Any]:
    eyes = {eye: record.get(eye, {}) for eye in ("left", "right")}
    return {
        **{key: record[key] for key in ("patient", "outcome", "grade", "class", "from")
           if key in record},
        **{eye: one.get("class", one.get("outcome", "")) for eye, one in eyes.items()},
        **_decision_values(record),
        "error": "; ".join(patient_errors(record)),
    }  # fmt: skip


def patient_errors(record: Mapping[str, Any]) -> list[str]:
    """Return why photographs of a patient have no prediction, with their names."""
    return [f"{one['file']}: {one['error']['message']}" for one in record.get("errors", ())]
