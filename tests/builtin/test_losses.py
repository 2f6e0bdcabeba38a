from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from sightx.builtin.losses import (
    CrossEntropy,
    InverseFrequencyCrossEntropy,
    NoiseAdaptation,
    SampleWeighted,
)

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


def test_the_noise_layer_maps_classes_to_labels() -> None:
    outputs, targets = batch()
    module = NoiseAdaptation(noise=0.3).build(class_counts=COUNTS)
    transition = 0.6 * torch.eye(4) + 0.1  # 0.7 for the class itself, 0.1 for each other one
    labels = outputs.softmax(1) @ transition
    torch.testing.assert_close(module(outputs, targets), -labels[range(16), targets].log())
    mixed = 0.7 * nn.functional.one_hot(targets, 4) + 0.3 * nn.functional.one_hot(3 - targets, 4)
    torch.testing.assert_close(module(outputs, mixed), -(mixed * labels.log()).sum(1))
    probabilities = NoiseAdaptation().probabilities(outputs, classes=4)
    torch.testing.assert_close(probabilities, outputs.softmax(1))


def test_the_noise_layer_learns_how_often_labels_are_wrong() -> None:
    rng = np.random.default_rng(0)
    noise = np.array([[0.9, 0.1, 0.0], [0.2, 0.6, 0.2], [0.0, 0.4, 0.6]])
    classes = np.repeat(np.arange(3), 200)
    labels = np.array([rng.choice(3, p=noise[label]) for label in classes])
    counted = np.array([[(labels[classes == c] == k).mean() for k in range(3)] for c in range(3)])
    certain = 100.0 * nn.functional.one_hot(torch.from_numpy(classes), 3)
    module = NoiseAdaptation().build(class_counts=(200, 200, 200))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        module(certain, torch.from_numpy(labels)).mean().backward()
        optimizer.step()
    (logits,) = module.parameters()
    np.testing.assert_allclose(logits.detach().softmax(1).numpy(), counted, atol=0.01)


def test_sample_weights_are_the_numbers_of_a_column_times_those_of_the_loss() -> None:
    targets, cells = torch.tensor([3, 0, 1]), np.array(["0.5", "2", "1e1"], dtype=object)
    numbers = torch.tensor([0.5, 2.0, 10.0])
    columns = {"certainty": cells}
    plain = SampleWeighted(base=CrossEntropy(), column="certainty")
    assert torch.equal(plain.weights(targets, COUNTS, columns=columns), numbers)
    base = InverseFrequencyCrossEntropy()
    balanced = SampleWeighted(base=base, column="certainty")
    expected = numbers * base.weights(targets, COUNTS)
    assert torch.equal(balanced.weights(targets, COUNTS, columns=columns), expected)
    assert (plain.balances, balanced.balances) == (False, True)
