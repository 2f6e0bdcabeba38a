"""Lesions: what a grade changes in the photograph of an eye."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightx.builtin.datasets.synthetic_fundus.render import render

PATIENTS = range(30)


def photograph(patient: int, grade: int = 0) -> NDArray[np.int64]:
    return render(0, patient, "left", grade, 64).astype(np.int64)


def test_a_higher_grade_changes_more_pixels() -> None:
    changed = [
        np.mean([(lesions_of(patient, grade) > 8).mean() for patient in PATIENTS])
        for grade in range(5)
    ]
    assert changed[0] == 0
    assert changed[0] < 2 * changed[1] < changed[2] < changed[3]
    assert changed[4] > 1.5 * changed[2]
    assert changed[3] < 0.25


def test_microaneurysms_are_few_and_only_darken() -> None:
    for patient in PATIENTS:
        assert (photograph(patient, 1) - photograph(patient)).max() <= 1
        assert (lesions_of(patient, 1) > 8).mean() < 0.03


def lesions_of(patient: int, grade: int) -> NDArray[np.int64]:
    """Return the difference of each pixel from the healthy eye."""
    difference = np.abs(photograph(patient, grade) - photograph(patient))
    return np.asarray(difference.max(axis=-1))
