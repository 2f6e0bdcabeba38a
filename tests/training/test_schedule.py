from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sightx import PluginError
from sightx.builtin import averages, optimizers, schedulers
from sightx.plugin import History, ParamGroup, Sampler, Scheduler
from sightx.spec.experiment import Training
from sightx.training.schedule import Schedule
from support.experiments import labelled, make_experiment

NONE = History("validation/loss", {})
TABLE = labelled([0] * 7 + [1] * 3)


def make_schedule(groups: tuple[str, ...] = (), **parts: Any) -> Schedule:
    """Return the schedule of 4 epochs of 5 steps."""
    experiment = make_experiment(training=Training(epochs=4, batch_size=2), **parts)
    return Schedule(experiment, TABLE, np.arange(len(TABLE)), groups)


class ByGroup(Scheduler):
    """Name the groups in the order in which they are asked for."""

    name = "test-by-group"

    def factor(self, step: int, *, group: str, groups: Any) -> float:
        return 10.0 * list(groups).index(group) + step


def test_a_run_has_steps_and_epochs() -> None:
    schedule = make_schedule()
    assert (schedule.epochs, schedule.steps_per_epoch, schedule.steps) == (4, 5, 20)
    assert sorted(schedule.order(2)) == list(range(10))
    assert schedule.average_share(0, NONE) == 0.0
    assert make_schedule(average=averages.Ema()).average_share(0, NONE) == 1.0


def test_one_factor_is_that_of_all_groups_unless_the_scheduler_asks_for_the_group() -> None:
    groups = ("head", "head", "loss", "*", "*")
    half_way = make_schedule(groups, scheduler=schedulers.Cosine()).lr_factors(10, NONE)
    assert half_way == pytest.approx((0.5,) * 5)
    assert make_schedule(groups, scheduler=ByGroup()).lr_factors(3, NONE) == (3, 3, 13, 23, 23)
    warm = make_schedule(groups, scheduler=ByGroup(warmup=2.0)).lr_factors(3, NONE)
    assert warm == pytest.approx((1.2, 1.2, 5.2, 9.2, 9.2))


def test_the_groups_are_by_default_those_of_the_spec() -> None:
    group = (ParamGroup(match=("head", "fc.*"), lr=0.1),)
    assert make_schedule(optimizer=optimizers.Adam(group=group)).groups == ("head fc.*", "*")


class Uneven(Sampler):
    """Give fewer samples in each epoch."""

    name = "test-fewer"

    def order(self, labels: Any, *, epoch: int, seed: int) -> Any:
        return np.arange(2 - epoch)


class Drawn(Sampler):
    """Draw from numpy's global generator."""

    name = "test-drawn"

    def order(self, labels: Any) -> Any:
        return np.random.permutation(len(labels))


def test_an_order_that_differs_when_it_is_asked_again_is_refused() -> None:
    with pytest.raises(PluginError, match=r"order\(\) of test-drawn .* another order for the same"):
        make_schedule(sampler=Drawn())


def test_epochs_of_another_length_are_refused() -> None:
    schedule = make_schedule(sampler=Uneven())
    with pytest.raises(PluginError, match=r"of test-fewer .* 1 samples in epoch 2, not 2, as in"):
        schedule.order(1)
