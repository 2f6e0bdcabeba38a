from __future__ import annotations

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from sightx.builtin.averages import Ema, Swa
from sightx.plugin import Average, History

PER_EPOCH, EPOCHS = 5, 6
STEPS = PER_EPOCH * EPOCHS
VALUES = torch.randn(STEPS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def shares(average: Average) -> list[float]:
    none = History("validation/loss", {})
    return [
        average.share(step, steps=STEPS, steps_per_epoch=PER_EPOCH, history=none)
        for step in range(STEPS)
    ]


def averages(average: Average) -> list[float]:
    """Return the average of VALUES after each step."""
    values, current = [], float(VALUES.mean())
    for share, new in zip(shares(average), VALUES.tolist(), strict=True):
        current += share * (new - current)
        values.append(current)
    return values


@pytest.mark.parametrize("decay", [0.7, 0.9999])
@pytest.mark.parametrize(
    ("warmup", "gamma", "power"), [(False, 1, 1), (True, 1, 2 / 3), (True, 5, 0.75)]
)
def test_the_shares_are_those_of_timm(
    decay: float, warmup: bool, gamma: float, power: float
) -> None:
    def of_timm(update: int) -> float:  # ModelEmaV3.get_decay; updates count from 1
        if (step := max(0, update - 1)) <= 0:
            return 0.0
        return max(min(1 - (1 + step / gamma) ** -power, decay), 0.0) if warmup else decay

    ema = Ema(decay=decay, warmup=warmup, warmup_gamma=gamma, warmup_power=power)
    expected = [1 - of_timm(update) for update in range(1, STEPS + 1)]
    assert shares(ema) == pytest.approx(expected, abs=1e-12)


def test_swa_is_the_mean_of_the_ends_of_epochs() -> None:
    averaged = AveragedModel(module := torch.nn.Linear(1, 1, dtype=torch.float64))
    after = averages(Swa(start_epoch=2))
    assert after[: 3 * PER_EPOCH] == pytest.approx(VALUES[: 3 * PER_EPOCH].tolist())
    for epoch in range(2, EPOCHS):
        module.weight.data.fill_(VALUES[(epoch + 1) * PER_EPOCH - 1])
        averaged.update_parameters(module)
        assert after[(epoch + 1) * PER_EPOCH - 1] == pytest.approx(averaged.module.weight.item())
        later = after[(epoch + 1) * PER_EPOCH - 1 : (epoch + 2) * PER_EPOCH - 1]
        assert len(set(later)) == 1  # it stays until the end of the next epoch


def test_swa_from_the_first_epoch_starts_with_its_end() -> None:
    after = averages(Swa(start_epoch=0))
    assert after[PER_EPOCH - 1] == pytest.approx(VALUES[PER_EPOCH - 1].item())
