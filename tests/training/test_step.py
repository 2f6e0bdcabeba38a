from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import NonFiniteError
from sightx.builtin.losses import CrossEntropy, InverseFrequencyCrossEntropy
from sightx.data.loader.loader import BatchLoader
from sightx.plugin import Problem
from sightx.records.pixels import PixelRows
from sightx.spec.experiment import Training
from sightx.training.criterion import Criterion
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.step import TrainStep, autocast

CPU = torch.device("cpu")
LABELS = np.array([0, 1, 2, 0, 0, 1, 2, 0])


class World:
    """A network, a rule, and the one batch that there is."""

    def __init__(self, loss: Any = None, *, deferred: bool = False, **settings: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (8, 1, 2, 2), generator=generator, dtype=torch.uint8)
        self.batches = BatchLoader(PixelRows.of(pixels), LABELS, ((0.5,), (0.5,)), CPU)
        torch.manual_seed(1)
        self.module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.0))
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.5, fused=True)
        objective = Criterion(loss or CrossEntropy(), (4, 2, 2), CPU)
        gate = NonFiniteGuard(self.optimizer, CPU, self.blame, deferred=deferred)
        training = Training(**settings)
        self.rule = TrainStep(self.module, self.optimizer, objective, self.batches, training, gate)

    def blame(self, step: int, positions: Any) -> NonFiniteError:
        return NonFiniteError(Problem("non-finite", f"step {step}, {len(positions)} samples"))

    def step(self, number: int = 0, multiplier: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        (batch,) = self.batches.stream([np.arange(8)], plain=True)
        return self.rule(batch, number, multiplier)


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("loss", [CrossEntropy(), InverseFrequencyCrossEntropy()])
@pytest.mark.parametrize("micro_batch_size", [1, 3, 8])
def test_a_step_is_the_same_whatever_the_micro_batch(
    loss: CrossEntropy, micro_batch_size: int, deferred: bool
) -> None:
    whole, cut = World(loss), World(loss, micro_batch_size=micro_batch_size, deferred=deferred)
    first, second = whole.step(), cut.step()
    torch.testing.assert_close(first[0], second[0])
    assert first[1] == second[1]
    for one, other in zip(whole.module.parameters(), cut.module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_multiplier_scales_the_move() -> None:
    full, half = World(), World()
    start = copy.deepcopy(full.module.state_dict())
    full.step(), half.step(multiplier=0.5)
    for name, weight in full.module.state_dict().items():
        moved = weight - start[name]
        torch.testing.assert_close(half.module.state_dict()[name] - start[name], moved / 2)


@pytest.mark.parametrize(
    ("device", "exact"), [("cpu", 0.5 * 0.3), ("cuda", float(np.float32(0.5 * 0.3)))]
)
def test_a_rate_on_cuda_is_what_a_graph_can_read(device: str, exact: float) -> None:
    world = World()
    world.rule.batches = replace(world.batches, device=torch.device(device))
    world.rule.rate(0.3)
    (group,) = world.optimizer.param_groups
    assert isinstance(group["lr"], float)
    assert group["lr"] == exact


def test_right_answers_are_counted_before_the_move() -> None:
    world = World()
    images, targets = world.batches.plain(np.arange(8))
    right = int((world.module(images).argmax(1) == targets).sum())
    assert int(world.step()[1]) == right


def test_weights_stay_where_the_loss_is_not_finite() -> None:
    world = World()
    with torch.no_grad():
        world.module[1].bias[0] = float("inf")
    before = copy.deepcopy(world.module.state_dict())
    with pytest.raises(NonFiniteError, match="step 4, 8 samples"):
        world.step(4)
    assert all(
        torch.equal(before[name], value) for name, value in world.module.state_dict().items()
    )


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_deferred_report_comes_later_but_the_weights_stay_at_once(clip: float) -> None:
    world = World(deferred=True, clip_grad_norm=clip)
    world.step(0)
    good = world.module[1].bias.detach().clone()
    with torch.no_grad():
        world.module[1].bias[0] = float("inf")
    before = copy.deepcopy(world.module.state_dict())
    world.step(1)
    world.module[1].bias.data.copy_(good)  # later steps are finite again, and must not move either
    before["1.bias"] = good
    world.step(2)
    with pytest.raises(NonFiniteError, match="step 1, 8 samples"):
        world.step(3)
    assert all(
        torch.equal(before[name], value) for name, value in world.module.state_dict().items()
    )


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32() -> None:
    layer, context = nn.Linear(2, 2), autocast(CPU, "bf16")
    for _ in range(2):  # the context may be entered again
        with context:
            assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
