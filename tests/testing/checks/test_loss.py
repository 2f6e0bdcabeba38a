from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from sightx.plugin import Loss
from sightx.testing.assertions import run_check
from sightx.testing.checks import loss as checks


class L(Loss):
    """Behave as a test requires."""

    name = "l"

    def build(self, *, class_counts):
        return Module(self.each)

    def each(self, outputs, targets):
        return functional.cross_entropy(outputs, targets, reduction="none")


class Module(nn.Module):
    """Call a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, outputs, targets):
        return self.function(outputs, targets)


class Scalar(L):
    def each(self, outputs, targets):
        return functional.cross_entropy(outputs, targets)


class Frequencies(L):
    def build(self, *, class_counts):
        weight = 1 / torch.tensor(class_counts)
        return Module(lambda o, t: functional.cross_entropy(o, t, reduction="none") * weight[t])


class Detached(L):
    def each(self, outputs, targets):
        return super().each(outputs.detach(), targets).requires_grad_()


class Partial(L):
    def each(self, outputs, targets):
        return super().each(outputs, targets) * (targets > 0)


class Rooted(L):
    def each(self, outputs, targets):
        return (outputs - outputs).square().sum(dim=1).sqrt()


class ClassWeights(L):
    def weights(self, targets, class_counts):
        return torch.tensor(class_counts).float()


class NegativeWeights(L):
    def weights(self, targets):
        return targets - 1.0


class Sigmoid(L):
    def probabilities(self, outputs):
        return outputs.sigmoid()


class Exponential(L):
    def probabilities(self, outputs):
        return outputs.exp() / outputs.exp().sum(dim=1, keepdim=True)


class OneShort(L):
    def probabilities(self, outputs):
        return outputs[:, 1:].softmax(dim=1)


class Undecided(L):
    def decision(self, probabilities):
        return probabilities.max(dim=1).values


class FromOne(L):
    def decision(self, probabilities):
        return probabilities.argmax(dim=1) + 1


class Mirrored(L):
    def probabilities(self, outputs):
        return outputs.flip(1).softmax(dim=1)


class NoWidth(L):
    def outputs(self, classes):
        return classes / 1


class Steps(L):
    """Have one output per boundary between grades, so one fewer than classes."""

    def outputs(self, classes):
        return classes - 1

    def each(self, outputs, targets):
        passed = (torch.arange(outputs.shape[1], device=outputs.device) < targets[:, None]).float()
        return functional.binary_cross_entropy_with_logits(outputs, passed, reduction="none").sum(1)

    def probabilities(self, outputs):
        above = outputs.sigmoid().cummin(dim=1).values
        ends = torch.ones(len(outputs), 1, device=outputs.device)
        return torch.cat([ends, above], 1) - torch.cat([above, ends * 0], 1)


class Learned(L):
    """Learn a temperature."""

    unused: bool = False

    def build(self, *, class_counts):
        module = Module(lambda outputs, targets: self.each(outputs * module.scale.exp(), targets))
        module.scale = nn.Parameter(torch.zeros(()))
        if self.unused:
            module.bias = nn.Parameter(torch.zeros(()))
        return module


class LearnedBadly(L):
    def build(self, *, class_counts):
        module = Module(lambda outputs, targets: self.each(outputs, targets) + module.scale.sqrt())
        module.scale = nn.Parameter(torch.zeros(()))
        return module


class Counting(L):
    def build(self, *, class_counts):
        module = super().build(class_counts=class_counts)
        module.register_buffer("calls", torch.zeros(()))
        module.register_forward_pre_hook(lambda module, inputs: module.calls.add_(1) and None)
        return module


class HardOnly(L):
    takes_mixed = True

    def each(self, outputs, targets):
        return -outputs.log_softmax(1).gather(1, targets[:, None])[:, 0]


class Rounding(L):
    takes_mixed = True

    def each(self, outputs, targets):
        if targets.ndim == 2:
            return functional.cross_entropy(outputs, targets.roll(1, 1), reduction="none")
        return super().each(outputs, targets)


class Summing(L):
    takes_mixed = True

    def weights(self, targets):
        return torch.ones_like(targets).float()


class OnTheCpu(L):
    def each(self, outputs, targets):
        weight = torch.ones(outputs.shape[1], device="cpu")
        return functional.cross_entropy(outputs, targets, weight=weight, reduction="none")


class Reading(L):
    def each(self, outputs, targets):
        return super().each(outputs, targets) / max(float(outputs.detach().abs().max()), 1.0)


class ReadingInTraining(L):
    def each(self, outputs, targets):
        losses = super().each(outputs, targets)
        return losses / max(losses.detach().max().item(), 1.0) if losses.requires_grad else losses


class Growing(L):
    def build(self, *, class_counts):
        module = Module(lambda outputs, targets: self.each(outputs, targets) * module.factor)
        module.factor = 1.0
        module.register_forward_hook(lambda *_: setattr(module, "factor", module.factor + 0.1))
        return module


BROKEN = [
    (checks.loss_works_on_any_device, ReadingInTraining(), "cannot be called on meta"),
    (checks.module_keeps_its_state, Growing(), "a second call with the same batch gives other"),
    (checks.loss_works_on_any_device, OnTheCpu(), "the loss fails on another device"),
    (checks.loss_works_on_any_device, Reading(), "cannot be called on meta"),
    (checks.mixed_targets_are_taken, HardOnly(), "int64"),
    (checks.mixed_targets_are_taken, Rounding(), "is not that of the class"),
    (checks.mixed_targets_are_taken, Summing(), "weights of mixed targets are not (B,)"),
    (checks.weights_of_the_loss_get_gradients, Learned(unused=True), "bias gets no gradient"),
    (checks.weights_of_the_loss_get_gradients, LearnedBadly(), "weight scale is not finite"),
    (
        checks.module_keeps_its_state,
        Counting(),
        "the buffer calls changes; the number of its updates",
    ),
    (checks.losses_are_per_sample, Scalar(), "losses are () for 12 samples"),
    (checks.losses_are_per_sample, Frequencies(), "not finite for class counts (6, 6, 0, 0)"),
    (checks.outputs_get_gradients, Detached(), "do not detach them"),
    (checks.outputs_get_gradients, Partial(), "the outputs of some samples get no gradient"),
    (checks.outputs_get_gradients, Rooted(), "the gradient of the outputs is not finite"),
    (checks.weights_are_per_sample, ClassWeights(), "weights are (4,) for 12 samples"),
    (checks.weights_are_per_sample, NegativeWeights(), "use finite ones >= 0"),
    (checks.probabilities_sum_to_one, Sigmoid(), "a row of probabilities does not sum to 1"),
    (checks.probabilities_sum_to_one, Exponential(), "outputs may have any size"),
    (checks.probabilities_sum_to_one, OneShort(), "probabilities are (12, 3)"),
    (checks.decisions_are_classes, Undecided(), "decisions are torch.float32 (12,)"),
    (checks.decisions_are_classes, FromOne(), "are outside of 0..3"),
    (checks.minimum_predicts_targets, Mirrored(), "must interpret outputs as the loss does"),
    (checks.minimum_predicts_targets, NoWidth(), "outputs(4) is 4.0; return a positive integer"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


@pytest.mark.parametrize("loss", [L(), Steps(), Learned()])
def test_losses_with_other_heads_pass(loss) -> None:
    results = [run_check(check, loss) for check in checks.CHECKS]
    assert [str(result) for result in results if not result.ok] == []
