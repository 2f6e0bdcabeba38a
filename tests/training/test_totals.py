from __future__ import annotations

import math

import pytest
import torch

from sightx.training.totals import Totals


def test_sums_are_those_of_all_samples() -> None:
    losses, sizes = [0.1, 2.5, 0.75], [4, 4, 1]
    totals = Totals()
    for loss, size in zip(losses, sizes, strict=True):
        totals = totals.plus(torch.tensor(loss), torch.tensor(size - 1), size)
    expected = math.fsum(loss * size for loss, size in zip(losses, sizes, strict=True))
    assert totals == (pytest.approx(expected, rel=1e-6), 6, 9)


def test_sums_over_many_steps_lose_no_digit() -> None:
    third, totals = torch.tensor(1 / 3), Totals(losses=1e7)
    for _ in range(1000):
        totals = totals.plus(third, torch.tensor(1), 1)
    assert totals.losses == pytest.approx(1e7 + 1000 * third.item(), rel=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_nothing_is_read() -> None:
    totals = Totals().plus(torch.tensor(0.5, device="cuda"), torch.tensor(3, device="cuda"), 4)
    assert isinstance(totals.losses, torch.Tensor)
    assert (totals.losses.device.type, totals.losses.dtype) == ("cuda", torch.float64)
    assert (float(totals.losses), float(totals.rights)) == (2.0, 3.0)
