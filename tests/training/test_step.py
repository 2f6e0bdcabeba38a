from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sightx import NonFiniteError
from sightx.builtin.losses import CrossEntropy, InverseFrequencyCrossEntropy
from sightx.data.batches import Batches
from sightx.data.rows import Rows
from sightx.spec.experiment import Training
from sightx.training.objective import Objective
from sightx.training.step import StepRule, autocast

CPU = torch.device("cpu")
NAMES = [f"{n}.png" for n in range(8)]
LABELS = np.array([0, 1, 2, 0, 0, 1, 2, 0])


def world(
    loss: CrossEntropy | InverseFrequencyCrossEntropy, **settings: object
) -> tuple[StepRule, nn.Module]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 1, 2, 2), generator=generator, dtype=torch.uint8)
    batches = Batches(Rows.of(pixels), LABELS, ((0.5,), (0.5,)), CPU)
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.0))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    objective = Objective(loss, (4, 2, 2), CPU)
    return StepRule(module, optimizer, objective, batches, Training(**settings), NAMES), module  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [CrossEntropy(), InverseFrequencyCrossEntropy()])
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_a_step_is_the_same_whatever_the_micro_batch(loss: CrossEntropy, micro_batch: int) -> None:
    whole, expected = world(loss)
    cut, module = world(loss, micro_batch=micro_batch)
    first = whole(np.arange(8), 0, 1.0)
    second = cut(np.arange(8), 0, 1.0)
    torch.testing.assert_close(first[0], second[0])
    assert first[1] == second[1]
    for one, other in zip(expected.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_multiplier_scales_the_move() -> None:
    full, one = world(CrossEntropy())
    half, other = world(CrossEntropy())
    start = copy.deepcopy(one.state_dict())
    full(np.arange(8), 0, 1.0)
    half(np.arange(8), 0, 0.5)
    for name, weight in one.state_dict().items():
        moved = weight - start[name]
        torch.testing.assert_close(other.state_dict()[name] - start[name], moved / 2)


def test_right_answers_are_counted_before_the_move() -> None:
    rule, module = world(CrossEntropy())
    images, targets = rule._batches.plain(np.arange(8))
    right = int((module(images).argmax(1) == targets).sum())
    assert int(rule(np.arange(8), 0, 1.0)[1]) == right


def test_weights_stay_where_the_loss_is_not_finite() -> None:
    rule, module = world(CrossEntropy())
    with torch.no_grad():
        module[1].bias[0] = float("inf")  # type: ignore[index]
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(NonFiniteError, match=r"step 5 \(8 samples: 0.png, 1.png"):
        rule(np.arange(8), 4, 1.0)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32() -> None:
    layer = nn.Linear(2, 2)
    with autocast(CPU, "bf16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
