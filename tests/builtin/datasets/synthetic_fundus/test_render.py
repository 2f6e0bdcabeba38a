"""Synthetic photographs of the retina: pure functions, with realistic grades."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from sightx.builtin.datasets.synthetic_fundus.render import PREVALENCE, Eye, grade_of, render

SIZE = 64
PATIENTS = range(30)


@cache
def photograph(patient: int, eye: Eye = "left", grade: int = 0) -> NDArray[np.int64]:
    """Return a small photograph with signed values."""
    return render(0, patient, eye, grade, SIZE).astype(np.int64)


@pytest.mark.parametrize("size", [33, 64, 96])
@pytest.mark.parametrize("grade", range(5))
def test_a_photograph_is_rgb_uint8(size: int, grade: int) -> None:
    picture = render(1, 2, "right", grade, size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_the_global_random_state_has_no_influence() -> None:
    first = render(5, 7, "left", 4, SIZE)
    np.random.seed(99)
    render(5, 8, "left", 3, SIZE)
    assert np.array_equal(render(5, 7, "left", 4, SIZE), first)


def test_seed_patient_and_eye_each_change_the_picture() -> None:
    pictures = [
        render(seed, patient, eye, 0, SIZE).tobytes()
        for seed in (0, 1)
        for patient in (0, 1)
        for eye in ("left", "right")
    ]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("eye", ["left", "right"])
def test_the_corners_are_black_and_the_middle_is_not(eye: Eye) -> None:
    for patient in PATIENTS:
        picture = photograph(patient, eye, grade=patient % 5)
        for corner in (picture[:6, :6], picture[:6, -6:], picture[-6:, :6], picture[-6:, -6:]):
            assert not corner.any()
        assert picture[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4].mean() > 25


def test_some_fields_of_view_are_cropped_above_and_below() -> None:
    tops = np.array([photograph(patient)[2, SIZE // 2].sum() == 0 for patient in PATIENTS])
    assert 0.1 < tops.mean() < 0.9


def test_both_eyes_follow_the_prevalence() -> None:
    grades = np.array([grade_of(0, patient) for patient in range(20_000)])
    assert sum(PREVALENCE) == pytest.approx(1.0)
    for eye in (0, 1):
        shares = np.bincount(grades[:, eye], minlength=5) / len(grades)
        error = np.sqrt(np.array(PREVALENCE) / len(grades))
        assert (np.abs(shares - PREVALENCE) < 4 * error).all()
    difference = np.abs(grades[:, 0] - grades[:, 1])
    assert difference.max() == 1
    assert 0.8 < (difference == 0).mean() < 0.95


def test_grades_are_the_same_on_every_machine_and_in_every_process() -> None:
    assert [grade_of(0, patient) for patient in range(12)] == [
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (2, 2),
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (2, 2),
        (0, 0),
    ]


def test_another_seed_gives_other_grades() -> None:
    grades = [grade_of(3, patient) for patient in range(200)]
    assert grades != [grade_of(4, patient) for patient in range(200)]


def test_the_eyes_of_one_patient_share_their_colour() -> None:
    left, right = (
        np.array([photograph(patient, eye).mean(axis=(0, 1)) for patient in PATIENTS])
        for eye in ("left", "right")
    )
    for channel in range(3):
        within = np.abs(left[:, channel] - right[:, channel]).mean()
        others = np.abs(left[:, None, channel] - right[None, :, channel]).mean()
        assert within < 0.6 * others
        assert np.corrcoef(left[:, channel], right[:, channel])[0, 1] > 0.6


def test_the_right_eye_is_the_left_one_mirrored() -> None:
    mirrored = unmirrored = 0.0
    for patient in PATIENTS:
        left, right = (photograph(patient, eye)[..., 1].ravel() for eye in ("left", "right"))
        flipped = photograph(patient, "right")[:, ::-1, 1].ravel()
        mirrored += float(np.corrcoef(left, flipped)[0, 1])
        unmirrored += float(np.corrcoef(left, right)[0, 1])
    assert mirrored > unmirrored


@pytest.mark.parametrize(("eye", "half"), [("left", 0), ("right", 1)])
def test_the_optic_disc_is_nasal(eye: Eye, half: int) -> None:
    mean = np.mean([photograph(patient, eye)[..., 1] for patient in PATIENTS], axis=0)
    brightest = int(mean.argmax()) % SIZE
    assert brightest // (SIZE // 2) == half
