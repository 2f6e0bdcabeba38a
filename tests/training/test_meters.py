from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sightx.data.loader.loader import Batch
from sightx.training import meters
from sightx.training.meters import EpochSums, Throughput

NOTHING = torch.zeros(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    return now


def test_sums_are_those_of_all_samples() -> None:
    losses, sizes = [0.1, 2.5, 0.75], [4, 4, 1]
    sums = EpochSums()
    for loss, size in zip(losses, sizes, strict=True):
        sums = sums.add(torch.tensor(loss), torch.tensor(size - 1), size)
    expected = math.fsum(loss * size for loss, size in zip(losses, sizes, strict=True))
    assert sums == (pytest.approx(expected, rel=1e-6), 6, 9)


def test_sums_over_many_steps_lose_no_digit() -> None:
    third, sums = torch.tensor(1 / 3), EpochSums(loss=1e7)
    for _ in range(1000):
        sums = sums.add(third, torch.tensor(1), 1)
    assert sums.loss == pytest.approx(1e7 + 1000 * third.item(), rel=1e-12)


@pytest.mark.gpu
def test_on_a_gpu_nothing_is_read() -> None:
    sums = EpochSums().add(torch.tensor(0.5, device="cuda"), torch.tensor(3, device="cuda"), 4)
    assert isinstance(sums.loss, torch.Tensor)
    assert (sums.loss.device.type, sums.loss.dtype) == ("cuda", torch.float64)
    assert (float(sums.loss), float(sums.num_correct)) == (2.0, 3.0)


def test_data_wait_is_the_time_in_which_batches_come(clock: list[float]) -> None:
    def batches() -> Iterator[Batch]:
        for size in (4, 4, 2):
            clock[0] += 0.5  # reading
            yield Batch(np.arange(size), NOTHING, NOTHING)
        clock[0] += 0.5  # finding that there is nothing more

    throughput = Throughput()
    for _ in throughput.iterate(batches()):
        clock[0] += 1.0  # computing
    clock[0] += 3.0  # the device finishes its work
    throughput.stop()
    clock[0] += 9.0  # what comes after does not count
    assert throughput.images_per_second == pytest.approx(10 / 8)
    assert throughput.data_wait_fraction == pytest.approx(2 / 8)


def test_an_epoch_without_steps_has_no_speed(clock: list[float]) -> None:
    throughput = Throughput()
    assert list(throughput.iterate(iter([]))) == []
    throughput.stop()
    assert (throughput.images_per_second, throughput.data_wait_fraction) == (0.0, 0.0)
