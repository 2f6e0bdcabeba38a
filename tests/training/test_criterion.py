from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from sightx import PluginError
from sightx.builtin.losses import CrossEntropy, InverseFrequencyCrossEntropy
from sightx.plugin import Loss
from sightx.training.criterion import Criterion

CPU = torch.device("cpu")
OUTPUTS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 0])


def test_sums_divided_are_torchs_weighted_mean() -> None:
    counts = (4, 2, 1)
    total, weight = Criterion(InverseFrequencyCrossEntropy(), counts, CPU).sums(OUTPUTS, TARGETS)
    classes = torch.tensor([7 / (3 * n) for n in counts])
    assert weight is not None
    torch.testing.assert_close(
        total / weight, nn.CrossEntropyLoss(weight=classes)(OUTPUTS, TARGETS)
    )


def test_samples_that_weigh_one_have_no_sum_of_weights() -> None:
    total, weight = Criterion(CrossEntropy(), (4, 2, 1), CPU).sums(OUTPUTS, TARGETS)
    assert weight is None
    torch.testing.assert_close(total / 7, nn.CrossEntropyLoss()(OUTPUTS, TARGETS))


def test_probabilities_and_decisions_are_the_losses() -> None:
    objective = Criterion(CrossEntropy(), (4, 2, 1), CPU)
    torch.testing.assert_close(objective.probabilities(OUTPUTS), OUTPUTS.softmax(1))
    assert torch.equal(objective.decisions(OUTPUTS), OUTPUTS.argmax(1))


def test_half_precision_outputs_are_summed_in_full() -> None:
    objective = Criterion(CrossEntropy(), (1, 1, 1), CPU)
    total, _ = objective.sums(OUTPUTS.bfloat16(), TARGETS)
    assert total.dtype == torch.float32


class Reduced(Loss):
    """Divide by the number of samples, as losses elsewhere do."""

    name = "test-reduced"

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        return nn.CrossEntropyLoss()


def test_a_loss_that_reduces_is_refused_at_the_first_batch() -> None:
    with pytest.raises(PluginError, match=r"test-reduced returns \(\) for 7 samples") as caught:
        Criterion(Reduced(), (4, 2, 1), CPU).sums(OUTPUTS, TARGETS)
    assert "leave out .mean()" in str(caught.value)
