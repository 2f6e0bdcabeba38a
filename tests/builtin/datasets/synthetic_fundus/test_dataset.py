from __future__ import annotations

import pickle

import numpy as np
import pytest

from sightx.builtin.datasets.synthetic_fundus import SyntheticFundus
from sightx.builtin.datasets.synthetic_fundus.render import grade_of, render


@pytest.fixture(scope="module")
def table():
    return SyntheticFundus(patients=60, size=48, seed=2).table()


def test_an_eye_is_rendered_the_same_each_time(table):
    again = pickle.loads(pickle.dumps(table.read))

    for index in (0, 7):
        assert np.array_equal(table.read(index), table.read(index))
        assert np.array_equal(table.read(index), again(index))
    assert not np.array_equal(table.read(0), table.read(1))


def test_rows_are_eyes_and_groups_patients(table):
    groups = table.groups.reshape(60, 2)

    assert len(table) == 120
    assert (groups[:, 0] == groups[:, 1]).all()
    assert len(set(groups[:, 0])) == 60
    assert table.frame["path"].is_unique
    assert np.array_equal(table.read(7), render(2, 3, "right", table.labels[7], 48))
    assert table.labels.reshape(60, 2).tolist() == [list(grade_of(2, n)) for n in range(60)]


def test_a_larger_dataset_begins_with_the_smaller(table):
    larger = SyntheticFundus(patients=70, size=48, seed=2).table()

    assert larger.frame[:120].equals(table.frame)


def test_three_grades_are_the_five_merged(table):
    dataset = SyntheticFundus(patients=60, size=48, seed=2, grades=3)
    three = dataset.table()

    merged = {0: 0, 1: 1, 2: 1, 3: 2, 4: 2}
    assert three.labels.tolist() == [merged[label] for label in table.labels.tolist()]
    assert three.classes == dataset.traits().classes
    assert len(three.classes) == 3
    worst = int(np.argmax(table.labels))
    assert np.array_equal(three.read(worst), table.read(worst))


def test_traits_agree_with_the_table(table):
    traits = SyntheticFundus().traits()

    assert traits.classes == table.classes
    assert traits.ordered == table.ordered is True
    assert traits.has_groups
    assert not traits.has_split
    assert "split" not in table.frame
