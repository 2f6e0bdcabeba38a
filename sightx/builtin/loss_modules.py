"""The modules of losses: each computes the loss of every class, and a target chooses from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus


class PerClassLoss(nn.Module):
    """A loss that is defined for each class that a sample may have.

    `forward` maps outputs (B, K) and targets to losses (B,): of classes (B,), the losses of these
    classes; of probabilities (B, classes), the means over the classes.
    """

    def per_class(self, outputs: Tensor) -> Tensor:
        """Return the loss that each class would have, float32 (B, classes)."""
        raise NotImplementedError

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of the targets, float32 (B,)."""
        losses = self.per_class(outputs)
        if targets.ndim == 1:
            return losses.gather(1, targets[:, None]).squeeze(1)
        return (targets * losses).sum(dim=1)


class FocalLoss(PerClassLoss):
    """-(1 - p)^gamma log p for the softmax p of outputs (B, classes)."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def per_class(self, outputs: Tensor) -> Tensor:
        """Return the loss that each class would have, float32 (B, classes)."""
        log_p = outputs.log_softmax(dim=1)
        # A power below 1 has an infinite gradient at 0.
        others = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(others**self.gamma) * log_p


class SquaredGradeError(PerClassLoss):
    """(output - class)^2 for outputs (B, 1)."""

    grades: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("grades", torch.arange(float(classes)), persistent=False)

    def per_class(self, outputs: Tensor) -> Tensor:
        """Return the loss that each class would have, float32 (B, classes)."""
        return (outputs - self.grades).square()


class ThresholdLoss(PerClassLoss):
    """Binary cross-entropies of "the class is above k", for outputs (B, classes - 1).

    With `conditional`, a threshold k counts only for samples whose class is at least k, so that
    output k is the logit of P(class > k | class >= k).
    """

    signs: Tensor
    counted: Tensor

    def __init__(self, classes: int, *, conditional: bool) -> None:
        super().__init__()
        grades, thresholds = torch.arange(classes)[:, None], torch.arange(classes - 1)
        counted = grades >= thresholds if conditional else torch.ones_like(grades >= thresholds)
        self.register_buffer("signs", 1.0 - 2.0 * (grades > thresholds), persistent=False)
        self.register_buffer("counted", counted.float(), persistent=False)

    def per_class(self, outputs: Tensor) -> Tensor:
        """Return the loss that each class would have, float32 (B, classes)."""
        return (softplus(outputs[:, None] * self.signs) * self.counted).sum(dim=2)


class NoiseAdaptationLoss(PerClassLoss):
    """-log of the probability of a given label, behind a noise layer that is learned.

    Row c of `logits` (C, C) gives, by softmax, how probable each label is for a sample of class c.
    """

    def __init__(self, classes: int, noise: float) -> None:
        super().__init__()
        # The softmax of a row is 1 - noise for the class itself, and noise / (C - 1) for others.
        own = math.log((1 - noise) * max(classes - 1, 1) / noise)
        self.logits = nn.Parameter(own * torch.eye(classes))

    def per_class(self, outputs: Tensor) -> Tensor:
        """Return the loss that each label would have, float32 (B, classes)."""
        pairs = outputs.log_softmax(dim=1)[:, :, None] + self.logits.log_softmax(dim=1)
        return -pairs.logsumexp(dim=1)


def from_thresholds(logits: Tensor) -> Tensor:
    """Map logits (B, classes - 1) of "the class is above k" to probabilities (B, classes).

    The logits are sorted first: a class above k + 1 is above k.
    """
    return _differences(logits.sort(dim=1, descending=True).values.sigmoid())


def from_conditional_thresholds(logits: Tensor) -> Tensor:
    """Map logits (B, classes - 1) of P(class > k | class >= k) to probabilities (B, classes)."""
    return _differences(logsigmoid(logits).cumsum(dim=1).exp())


def _differences(above: Tensor) -> Tensor:
    """Map falling P(class > k), (B, classes - 1), to probabilities (B, classes)."""
    from torch.nn.functional import pad

    return pad(above, (1, 0), value=1.0) - pad(above, (0, 1))


def median_class(probabilities: Tensor) -> Tensor:
    """Return the number of thresholds k with P(class > k) > 1/2, int64 (B,)."""
    return (probabilities.cumsum(dim=1)[:, :-1] < 0.5).sum(dim=1)
