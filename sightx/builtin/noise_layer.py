"""The module of the loss `noise-adaptation`: a cross-entropy behind a learned noise layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class NoiseAdaptationLoss(nn.Module):
    """Map logits (B, C) and targets, classes (B,) or probabilities (B, C), to losses (B,).

    Row c of `logits` (C, C) gives, by softmax, how probable each label is for a sample of class c.
    """

    def __init__(self, classes: int, noise: float) -> None:
        super().__init__()
        # The softmax of a row is 1 - noise for the class itself, and noise / (C - 1) for others.
        own = math.log((1 - noise) * max(classes - 1, 1) / noise)
        self.logits = nn.Parameter(own * torch.eye(classes))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return -log of the probability of the given labels, float32 (B,)."""
        pairs = outputs.log_softmax(dim=1)[:, :, None] + self.logits.log_softmax(dim=1)
        log_labels = pairs.logsumexp(dim=1)  # (B, C): of each label that may be given
        if targets.ndim == 1:
            return -log_labels.gather(1, targets[:, None]).squeeze(1)
        return -(targets * log_labels).sum(dim=1)
