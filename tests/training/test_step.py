from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx import NonFiniteError, PluginError
from sightx.builtin.losses import CrossEntropy, InverseFrequencyCrossEntropy
from sightx.data.loader.loader import BatchLoader
from sightx.distributed.collectives import Collectives
from sightx.plugin import Loss, Problem
from sightx.records.pixels import PixelRows
from sightx.spec.experiment import Training
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.step import Criterion, TrainStep, autocast

CPU = torch.device("cpu")
LABELS = np.array([0, 1, 2, 0, 0, 1, 2, 0])
OUTPUTS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 0])
ROWS = np.arange(7)


class OneBatch:
    """A network, its training step, and the only batch, of 8 samples."""

    def __init__(self, loss: Any = None, *, deferred: bool = False, **settings: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (8, 1, 2, 2), generator=generator, dtype=torch.uint8)
        self.loader = BatchLoader(PixelRows.of(pixels), LABELS, ((0.5,), (0.5,)), CPU)
        torch.manual_seed(1)
        self.module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.0))
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.5, fused=True)
        self.train_step = TrainStep(
            network=self.module,
            optimizer=self.optimizer,
            base_lrs=[0.5],
            criterion=Criterion(loss or CrossEntropy(), (4, 2, 2), CPU),
            loader=self.loader,
            settings=Training(**settings),
            guard=NonFiniteGuard(self.optimizer, CPU, self.to_error, deferred=deferred),
            collectives=Collectives(),
        )

    def to_error(self, step: int, positions: Any) -> NonFiniteError:
        return NonFiniteError(Problem("non-finite", f"step {step}, {len(positions)} samples"))

    def step(self, number: int = 0, lr_factor: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        (batch,) = self.loader.iter_batches([np.arange(8)], normalize=True)
        return self.train_step(batch, number, [lr_factor])


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("loss", [CrossEntropy(), InverseFrequencyCrossEntropy()])
@pytest.mark.parametrize("micro_batch_size", [1, 3, 8])
def test_a_step_is_the_same_whatever_the_micro_batch(
    loss: CrossEntropy, micro_batch_size: int, deferred: bool
) -> None:
    whole, cut = (
        OneBatch(loss),
        OneBatch(loss, micro_batch_size=micro_batch_size, deferred=deferred),
    )
    first, second = whole.step(), cut.step()
    torch.testing.assert_close(first[0], second[0])
    assert first[1] == second[1]
    for one, other in zip(whole.module.parameters(), cut.module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("limit", [0.0, 0.01])
@pytest.mark.parametrize("micro_batch_size", [3, 8])
def test_the_norm_of_the_gradient_before_clipping_is_stored_if_it_is_watched(
    limit: float, micro_batch_size: int
) -> None:
    settings: dict[str, Any] = {"micro_batch_size": micro_batch_size, "clip_grad_norm": limit}
    watched, other = OneBatch(**settings), OneBatch(**settings)
    norm = torch.full((), float("nan"))
    watched.train_step = replace(watched.train_step, grad_norm=norm)
    plain = OneBatch().module
    images, targets = next(OneBatch().loader.iter_batches([np.arange(8)], normalize=True))[1:]
    torch.nn.functional.cross_entropy(plain(images), targets).backward()
    squares = sum(float(weight.grad.square().sum()) for weight in plain.parameters())
    watched.step()
    other.step()
    assert float(norm) == pytest.approx(squares**0.5)
    for one, two in zip(watched.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_step_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        OneBatch().train_step.network = nn.Identity()  # type: ignore[misc]


def test_the_lr_factor_scales_the_update() -> None:
    full, half = OneBatch(), OneBatch()
    start = copy.deepcopy(full.module.state_dict())
    full.step(), half.step(lr_factor=0.5)
    for name, weight in full.module.state_dict().items():
        moved = weight - start[name]
        torch.testing.assert_close(half.module.state_dict()[name] - start[name], moved / 2)


@pytest.mark.parametrize(
    ("device", "exact"), [("cpu", 0.5 * 0.3), ("cuda", float(np.float32(0.5 * 0.3)))]
)
def test_a_learning_rate_on_cuda_is_what_a_graph_can_read(device: str, exact: float) -> None:
    one_batch = OneBatch()
    loader = replace(one_batch.loader, device=torch.device(device))
    replace(one_batch.train_step, loader=loader).set_lr([0.3])
    (group,) = one_batch.optimizer.param_groups
    assert isinstance(group["lr"], float)
    assert group["lr"] == exact


def test_correct_answers_are_counted_before_the_update() -> None:
    one_batch = OneBatch()
    images, targets = one_batch.loader.load(np.arange(8))
    correct = int((one_batch.module(images).argmax(1) == targets).sum())
    assert int(one_batch.step()[1]) == correct


def test_weights_stay_where_the_loss_is_not_finite() -> None:
    one_batch = OneBatch()
    with torch.no_grad():
        one_batch.module[1].bias[0] = float("inf")
    before = copy.deepcopy(one_batch.module.state_dict())
    with pytest.raises(NonFiniteError, match="step 4, 8 samples"):
        one_batch.step(4)
    assert all(
        torch.equal(before[name], value) for name, value in one_batch.module.state_dict().items()
    )


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_deferred_report_comes_later_but_the_weights_stay_at_once(clip: float) -> None:
    one_batch = OneBatch(deferred=True, clip_grad_norm=clip)
    one_batch.step(0)
    good = one_batch.module[1].bias.detach().clone()
    with torch.no_grad():
        one_batch.module[1].bias[0] = float("inf")
    before = copy.deepcopy(one_batch.module.state_dict())
    one_batch.step(1)
    one_batch.module[1].bias.data.copy_(good)  # later steps are finite, and must not update either
    before["1.bias"] = good
    one_batch.step(2)
    with pytest.raises(NonFiniteError, match="step 1, 8 samples"):
        one_batch.train_step.guard.flush()
    assert all(
        torch.equal(before[name], value) for name, value in one_batch.module.state_dict().items()
    )


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32() -> None:
    layer, context = nn.Linear(2, 2), autocast(CPU, "bf16")
    for _ in range(2):  # the context may be entered again
        with context:
            assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def test_a_weighted_sum_divided_by_the_weights_is_torchs_weighted_mean() -> None:
    criterion = Criterion(InverseFrequencyCrossEntropy(), (4, 2, 1), CPU)
    total, weight = criterion.weighted_sum(OUTPUTS, TARGETS, ROWS)
    classes = torch.tensor([7 / (3 * n) for n in (4, 2, 1)])
    assert weight is not None
    torch.testing.assert_close(
        total / weight, nn.CrossEntropyLoss(weight=classes)(OUTPUTS, TARGETS)
    )


def test_samples_of_equal_weight_have_no_sum_of_weights() -> None:
    total, weight = Criterion(CrossEntropy(), (4, 2, 1), CPU).weighted_sum(OUTPUTS, TARGETS, ROWS)
    assert weight is None
    torch.testing.assert_close(total / 7, nn.CrossEntropyLoss()(OUTPUTS, TARGETS))


def test_probabilities_and_decisions_are_those_of_the_loss() -> None:
    criterion = Criterion(CrossEntropy(), (4, 2, 1), CPU)
    torch.testing.assert_close(criterion.probabilities(OUTPUTS), OUTPUTS.softmax(1))
    assert torch.equal(criterion.decisions(OUTPUTS), OUTPUTS.argmax(1))
    mixed = nn.functional.one_hot(TARGETS, 3).float() * 0.9
    expected = (OUTPUTS.argmax(1) == TARGETS).sum()
    assert criterion.num_correct(OUTPUTS, TARGETS) == expected
    assert criterion.num_correct(OUTPUTS, mixed) == expected


def test_half_precision_outputs_are_summed_in_full_precision() -> None:
    total, _ = Criterion(CrossEntropy(), (1, 1, 1), CPU).weighted_sum(
        OUTPUTS.bfloat16(), TARGETS, ROWS
    )
    assert total.dtype == torch.float32


class Reduced(Loss):
    """Divide by the number of samples, as losses elsewhere do."""

    name = "test-reduced"

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        return nn.CrossEntropyLoss()


def test_a_loss_that_reduces_is_refused_at_the_first_batch() -> None:
    with pytest.raises(PluginError, match=r"test-reduced returns \(\) for 7 samples") as caught:
        Criterion(Reduced(), (4, 2, 1), CPU)(OUTPUTS, TARGETS, ROWS)
    assert "leave out .mean()" in str(caught.value)
