from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sightx.data.loader.loader import Batch
from sightx.training import meters
from sightx.training.meters import Throughput

NOTHING = torch.zeros(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    return now


def test_waiting_is_the_time_in_which_batches_come(clock: list[float]) -> None:
    def batches() -> Iterator[Batch]:
        for size in (4, 4, 2):
            clock[0] += 0.5  # reading
            yield Batch(np.arange(size), NOTHING, NOTHING)
        clock[0] += 0.5  # finding that there is nothing more

    made = Throughput()
    for _ in made.over(batches()):
        clock[0] += 1.0  # computing
    clock[0] += 3.0  # the device ends what it was given
    made.stop()
    clock[0] += 9.0  # what comes after counts no more
    assert made.images_per_second == pytest.approx(10 / 8)
    assert made.data_wait_fraction == pytest.approx(2 / 8)


def test_an_epoch_without_steps_has_no_speed(clock: list[float]) -> None:
    made = Throughput()
    assert list(made.over(iter([]))) == []
    made.stop()
    assert (made.images_per_second, made.data_wait_fraction) == (0.0, 0.0)
