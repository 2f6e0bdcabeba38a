from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sightx.audit.statistics import (
    auc_error,
    chi_square_p,
    expected_half_width,
    robust_z,
    total_variation,
)
from sightx.evaluation.roc import roc_auc


@pytest.mark.parametrize("groups", [1, 10, 200])
def test_the_half_width_is_that_of_wilsons_interval(groups):
    interval = stats.binomtest(groups, 2 * groups).proportion_ci(0.95, method="wilson")
    expected = (interval.high - interval.low) / 2
    assert expected_half_width(2 * groups) == pytest.approx(expected)


def test_ten_groups_give_about_a_quarter():
    assert expected_half_width(10) == pytest.approx(0.26, abs=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_the_p_value_is_near_that_of_scipy(seed):
    table = np.random.default_rng(seed).integers(5, 60, (2, 2 + seed))
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert chi_square_p(table) == pytest.approx(expected, abs=0.01)


def test_empty_rows_and_columns_do_not_count():
    table = np.array([[10, 0, 30], [30, 0, 10], [0, 0, 0]])
    assert chi_square_p(table) == chi_square_p(table[:2][:, [0, 2]]) < 1e-4
    assert chi_square_p(np.array([[5, 0], [7, 0]])) == 1.0


def test_total_variation_is_the_share_that_would_have_to_move():
    assert total_variation(np.array([3, 1]), np.array([10, 10])) == 0.25


def test_the_error_of_the_auc_is_that_of_random_scores():
    rng = np.random.default_rng(0)
    labels = np.arange(60) < 20
    drawn = [roc_auc(labels, rng.random(60)) for _ in range(800)]
    assert auc_error(20, 40) == pytest.approx(np.std(drawn), rel=0.1)


def test_robust_z_ignores_outliers_and_is_zero_without_spread():
    values = np.array([1.0, 2, 3, 4, 5, 1000])
    assert robust_z(values)[-1] > 400
    assert robust_z(np.ones(4)).tolist() == [0] * 4
