from __future__ import annotations

import numpy as np
import pytest
import torch

from sightx import SpecError
from sightx.plugin import Normalize, Problem
from sightx.testing.assertions import run_check
from sightx.testing.checks import normalize as checks


class N(Normalize):
    """Behave as a test requires."""

    name = "n"

    def statistics(self, *, model, training_rows):
        channels = training_rows.shape[0]
        return (0.5,) * channels, (0.2,) * channels


class ThreeOnly(N):
    def statistics(self):
        return (0.5,) * 3, (0.2,) * 3


class Measuring(N):
    def statistics(self, *, training_rows):
        values = training_rows.pixels.tensor.float().movedim(1, 0).flatten(1) / 255
        return tuple(values.mean(1).tolist()), tuple(values.std(1).tolist())


class NotANumber(N):
    def statistics(self, *, training_rows):
        mean, deviation = super().statistics(model=None, training_rows=training_rows)
        return (float("nan"),) * len(mean), deviation


class Numpy(N):
    def statistics(self, *, training_rows):
        mean, deviation = super().statistics(model=None, training_rows=training_rows)
        return tuple(np.float64(value) for value in mean), deviation


class Refusing(N):
    def statistics(self, *, training_rows):
        raise SpecError(Problem("no", "never"))


class Wandering(N):
    def statistics(self, *, training_rows):
        mean, deviation = super().statistics(model=None, training_rows=training_rows)
        return tuple(float(torch.rand(())) for _ in mean), deviation


class Blackening(N):
    def statistics(self, *, model, training_rows):
        training_rows.pixels.tensor.zero_()
        return super().statistics(model=model, training_rows=training_rows)


BROKEN = [
    (checks.statistics_are_valid, ThreeOnly(), "one float for each of 1 channels"),
    (checks.statistics_are_valid, Measuring(), "they must be above 0"),
    (checks.statistics_are_valid, NotANumber(), "they must be finite"),
    (checks.statistics_are_valid, Numpy(), "return one float for each"),
    (checks.statistics_are_valid, Refusing(), "it refuses images with three channels and with one"),
    (checks.statistics_are_deterministic, Wandering(), "statistics() returns"),
    (checks.statistics_are_deterministic, Blackening(), "modifies the pixels"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_component_passes() -> None:
    results = [run_check(check, N()) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
