from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from sightx.builtin.fellow_eye import FellowEye
from sightx.builtin.metrics import Qwk
from tests.builtin.test_postprocess import at_grades


def eyes(seed=0, patients=600, noise=0.8):
    """Return predictions for both eyes of patients: true grades are alike, errors are not."""
    rng = np.random.default_rng(seed)
    grades = np.clip(rng.normal(1, 1.2, (patients, 1)) + rng.normal(0, 0.3, (patients, 2)), 0, 4)
    seen = np.clip(grades + rng.normal(0, noise, grades.shape), 0, 4)
    given = at_grades(seen.ravel(), np.rint(grades).astype(int).ravel(), 5)
    return replace(given, groups=tuple(f"p{n // 2}" for n in range(2 * patients)))


def expected_grades(given):
    return given.probabilities @ np.arange(5)


def test_the_weight_is_that_of_scikit_learns_least_squares() -> None:
    given = eyes()
    own = expected_grades(given).reshape(-1, 2)
    design = np.stack([own.ravel(), own[:, ::-1].ravel()], axis=1)
    b, c = LinearRegression().fit(design, given.labels).coef_
    assert FellowEye().fit(given)["weight"] == pytest.approx(c / (b + c))
    assert 0.1 < c / (b + c) < 0.5


def test_each_eye_moves_towards_the_prediction_of_the_other() -> None:
    given = eyes(patients=20)
    changed = FellowEye().apply(given, {"weight": 0.3})
    own = expected_grades(given).reshape(-1, 2)
    wanted = (0.7 * own + 0.3 * own[:, ::-1]).ravel()
    np.testing.assert_allclose(expected_grades(changed), wanted)
    np.testing.assert_array_equal(changed.decisions, np.rint(wanted))
    np.testing.assert_allclose(changed.probabilities.sum(axis=1), 1)


def test_grades_of_new_patients_get_better() -> None:
    state, new = FellowEye().fit(eyes(0)), eyes(1)
    plain = FellowEye().apply(new, {"weight": 0.0})
    gain = Qwk().compute(FellowEye().apply(new, state))["qwk"] - Qwk().compute(plain)["qwk"]
    assert gain > 0.03


def test_labels_of_the_other_eye_are_not_used() -> None:
    given = eyes(patients=30)
    state = FellowEye().fit(given)
    changed = FellowEye().apply(given, state)
    without = FellowEye().apply(replace(given, labels=np.full(60, -1)), state)
    np.testing.assert_array_equal(changed.probabilities, without.probabilities)
    np.testing.assert_array_equal(changed.decisions, without.decisions)


def test_an_eye_alone_keeps_its_prediction() -> None:
    given = eyes(patients=2)
    alone = replace(given, groups=("p0", "p0", "p1", ""))
    changed = FellowEye().apply(alone, {"weight": 0.5})
    np.testing.assert_array_equal(changed.probabilities[2:], given.probabilities[2:])
    np.testing.assert_array_equal(changed.decisions[2:], given.decisions[2:])
    assert FellowEye().fit(replace(given, groups=("",) * 4)) == {"weight": 0.0}


def test_three_images_of_a_patient_use_the_mean_of_the_two_others() -> None:
    given = replace(at_grades([0.0, 1.0, 3.0], [0, 1, 3], 5), groups=("p",) * 3)
    changed = FellowEye().apply(given, {"weight": 0.5})
    np.testing.assert_allclose(expected_grades(changed), [1.0, 1.25, 1.75])


@pytest.mark.parametrize("labels", [[-1] * 4, [2] * 4])
def test_nothing_is_learned_where_nothing_can_be(labels) -> None:
    given = replace(eyes(patients=2), labels=np.array(labels))
    assert FellowEye().fit(given) == {"weight": 0.0}
