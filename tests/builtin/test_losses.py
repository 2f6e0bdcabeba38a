from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from sightx.builtin.losses import CrossEntropy, InverseFrequencyCrossEntropy

COUNTS = (50, 30, 15, 5)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(16, 4, generator=generator, requires_grad=True)
    return outputs, torch.randint(4, (16,), generator=generator)


def test_cross_entropy_is_minus_the_log_of_the_targets_probability() -> None:
    outputs, targets = batch()
    losses = CrossEntropy().build(class_counts=COUNTS)(outputs, targets)
    probability = CrossEntropy().probabilities(outputs, classes=4)[range(16), targets]
    torch.testing.assert_close(losses, -probability.log())
    assert CrossEntropy().weights(targets, COUNTS) is None


def test_label_smoothing_spreads_a_share_of_the_target() -> None:
    outputs, targets = batch()
    losses = CrossEntropy(label_smoothing=0.2).build(class_counts=COUNTS)(outputs, targets)
    spread = 0.8 * nn.functional.one_hot(targets, 4) + 0.2 / 4
    torch.testing.assert_close(losses, -(spread * outputs.log_softmax(1)).sum(1))


@pytest.mark.parametrize("share", ["1.0", "-0.1", "true"])
def test_label_smoothing_is_a_share(share: str) -> None:
    with pytest.raises(ValidationError):
        CrossEntropy.model_validate_json(f'{{"label_smoothing": {share}}}')


@pytest.mark.parametrize("loss", [CrossEntropy(), InverseFrequencyCrossEntropy()])
def test_mixed_targets_give_the_mean_of_their_classes(loss) -> None:
    outputs, targets = batch()
    other = (targets + 1) % 4
    module = loss.build(class_counts=COUNTS)
    mixed = 0.7 * nn.functional.one_hot(targets, 4) + 0.3 * nn.functional.one_hot(other, 4)
    expected = 0.7 * module(outputs, targets) + 0.3 * module(outputs, other)
    torch.testing.assert_close(module(outputs, mixed), expected)


def test_class_weights_are_scikit_learns_balanced() -> None:
    labels = np.repeat(np.arange(4), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    weights = InverseFrequencyCrossEntropy().weights(torch.tensor([3, 0, 1, 2, 3]), COUNTS)
    np.testing.assert_allclose(weights.numpy(), expected[[3, 0, 1, 2, 3]], rtol=1e-6)


def test_weighted_mean_and_its_gradient_are_torchs() -> None:
    loss = InverseFrequencyCrossEntropy()
    for seed in range(5):
        outputs, targets = batch(seed)
        weights = loss.weights(targets, COUNTS)
        own = (weights * loss.build(class_counts=COUNTS)(outputs, targets)).sum() / weights.sum()
        per_class = torch.tensor([100 / (4 * count) for count in COUNTS])
        reference = nn.CrossEntropyLoss(weight=per_class)(outputs, targets)
        torch.testing.assert_close(own, reference)
        torch.testing.assert_close(
            torch.autograd.grad(own, outputs, retain_graph=True),
            torch.autograd.grad(reference, outputs),
        )


def test_mixed_targets_weigh_what_their_classes_weigh_on_average() -> None:
    loss = InverseFrequencyCrossEntropy()
    hard = loss.weights(torch.tensor([0, 3]), COUNTS)
    mixed = loss.weights(torch.tensor([[0.25, 0.0, 0.0, 0.75]]), COUNTS)
    torch.testing.assert_close(mixed, (0.25 * hard[0] + 0.75 * hard[1])[None])


def test_class_without_samples_weighs_as_if_it_had_one() -> None:
    weights = InverseFrequencyCrossEntropy().weights(torch.tensor([0, 1, 2]), [8, 4, 0])
    torch.testing.assert_close(weights, torch.tensor([12 / 24, 12 / 12, 12 / 3]))


def test_weights_first_made_without_gradients_can_be_trained_with() -> None:
    loss, counts = InverseFrequencyCrossEntropy(), [7, 11, 13, 17]
    outputs, targets = batch()
    with torch.inference_mode():
        loss.weights(targets, counts)
    (loss.weights(targets, counts) * outputs.sum(1)).sum().backward()
    assert outputs.grad is not None
