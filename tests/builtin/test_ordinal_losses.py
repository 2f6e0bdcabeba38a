from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from sightx.builtin.losses import Focal
from sightx.builtin.ordinal_losses import Coral, Corn, OrdinalRegression

CLASSES = 5
TARGETS = torch.arange(20) % CLASSES
ALL = [OrdinalRegression(), Coral(), Corn(), Focal()]


def outputs_of(loss, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(TARGETS), loss.outputs(CLASSES))
    return (2 * torch.randn(shape, generator=generator)).requires_grad_()


def module_of(loss):
    return loss.build(class_counts=[4] * CLASSES)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def coral_by_the_paper(logits, grade):
    """- sum_k [y > k] log s(z_k) + [y <= k] log(1 - s(z_k)), one threshold after the other."""
    return -sum(math.log(sigmoid(z) if grade > k else 1 - sigmoid(z)) for k, z in enumerate(logits))


def corn_by_the_paper(logits, grade):
    """The same over the thresholds in whose conditional training set the sample is."""
    return coral_by_the_paper(logits[: grade + 1], grade)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [(Coral(), coral_by_the_paper), (Corn(), corn_by_the_paper)],
    ids=["coral", "corn"],
)
def test_threshold_losses_are_the_papers(loss, formula) -> None:
    outputs = outputs_of(loss)
    expected = [
        formula(row, grade) for row, grade in zip(outputs.tolist(), TARGETS.tolist(), strict=True)
    ]
    np.testing.assert_allclose(module_of(loss)(outputs, TARGETS).tolist(), expected, rtol=1e-5)


def test_corns_probabilities_are_products_of_conditional_ones() -> None:
    outputs = outputs_of(Corn())
    probabilities = Corn().probabilities(outputs, classes=CLASSES)
    for row, logits in zip(probabilities.tolist(), outputs.tolist(), strict=True):
        above = [1.0, *np.cumprod([sigmoid(z) for z in logits]), 0.0]
        np.testing.assert_allclose(row, -np.diff(above), atol=1e-6)
        assert Corn().decision(torch.tensor([row])).item() == sum(p > 0.5 for p in above[1:])


def test_corals_probabilities_are_differences() -> None:
    outputs = torch.tensor([[2.0, 1.0, 0.1, -3.0]])
    row = Coral().probabilities(outputs, classes=CLASSES)[0].tolist()
    above = [1.0, *(sigmoid(z) for z in (2.0, 1.0, 0.1, -3.0)), 0.0]
    np.testing.assert_allclose(row, -np.diff(above), atol=1e-6)
    assert Coral().decision(torch.tensor([row])).item() == 3
    crossed = Coral().probabilities(torch.tensor([[1.0, 2.0, -3.0, 0.1]]), classes=CLASSES)
    np.testing.assert_allclose(crossed[0].tolist(), row, atol=1e-6)


def test_squared_error_and_its_gradient_are_torchs() -> None:
    outputs = outputs_of(OrdinalRegression())
    own = module_of(OrdinalRegression())(outputs, TARGETS)
    reference = nn.MSELoss(reduction="none")(outputs[:, 0], TARGETS.float())
    torch.testing.assert_close(own, reference)
    own_gradient, expected = (
        torch.autograd.grad(losses.sum(), outputs, retain_graph=True) for losses in (own, reference)
    )
    torch.testing.assert_close(own_gradient, expected)


def test_grades_are_normal_around_the_output() -> None:
    loss = OrdinalRegression(spread=0.7)
    scores = torch.linspace(-2, 6, 33)[:, None]
    probabilities = loss.probabilities(scores, classes=CLASSES)
    densities = norm.pdf(np.arange(CLASSES), loc=scores.numpy(), scale=0.7)
    expected = densities / densities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert (np.diff(probabilities.double() @ torch.arange(5.0).double()) > 0).all()
    nearest = scores[:, 0].clamp(0, 4).round()
    is_between = (scores[:, 0] % 1) == 0.5
    assert (loss.decision(probabilities) == nearest)[~is_between].all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_weighted_cross_entropy(gamma: float) -> None:
    outputs = outputs_of(Focal())
    losses = module_of(Focal(gamma=gamma))(outputs, TARGETS)
    entropy = nn.functional.cross_entropy(outputs, TARGETS, reduction="none")
    torch.testing.assert_close(losses, (1 - (-entropy).exp()) ** gamma * entropy)


def test_focal_loss_of_two_classes_is_torchvisions() -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, targets = torch.linspace(-4, 4, 12), torch.arange(12) % 2
    own = Focal(gamma=2.0).build(class_counts=[6, 6])
    two = torch.stack([torch.zeros(12), logits], dim=1)
    reference = sigmoid_focal_loss(logits, targets.float(), alpha=-1, gamma=2.0)
    torch.testing.assert_close(own(two, targets), reference)


def test_focal_loss_of_a_certain_sample_has_a_finite_gradient() -> None:
    outputs = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = Focal(gamma=0.5).build(class_counts=[1, 1])(outputs, torch.tensor([0]))
    loss.sum().backward()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_mixed_targets_have_the_mean_of_their_classes_losses(loss) -> None:
    outputs, module = outputs_of(loss), module_of(loss)
    others = (TARGETS + 2) % CLASSES
    one, other = (nn.functional.one_hot(each, CLASSES) for each in (TARGETS, others))
    expected = 0.3 * module(outputs, TARGETS) + 0.7 * module(outputs, others)
    torch.testing.assert_close(module(outputs, 0.3 * one + 0.7 * other), expected)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_a_samples_loss_does_not_depend_on_its_batch(loss) -> None:
    outputs, module = outputs_of(loss), module_of(loss)
    alone = torch.cat([module(outputs[i : i + 1], TARGETS[i : i + 1]) for i in range(20)])
    torch.testing.assert_close(module(outputs, TARGETS), alone)
