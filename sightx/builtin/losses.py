"""What training makes small: one number a sample."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sightx.plugin import Loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class CrossEntropy(Loss):
    """Cross-entropy, all samples alike.

    -sum_c t_c log p_c of each sample, in nats, for outputs (B, C) as logits; targets are classes
    (B,) or, when mixed, probabilities (B, C).
    """

    name = "cross-entropy"
    capturable = True

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of each target that is spread evenly over all classes."""

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the cross-entropy of each sample."""
        from torch import nn

        return nn.CrossEntropyLoss(reduction="none", label_smoothing=self.label_smoothing)


class InverseFrequencyCrossEntropy(Loss):
    """Cross-entropy, rare classes weighing more.

    A sample of class c weighs N / (C n_c), where the training side has N samples of C classes, n_c
    of them of class c: scikit-learn's "balanced". A class without any counts as if it had one: its
    samples, which only validation and test can hold, then weigh most, but not infinitely. A mixed
    target (B, C) weighs what its classes weigh on average.
    """

    name = "inverse-frequency-cross-entropy"
    capturable = True
    balances = True

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the cross-entropy of each sample, not weighted."""
        from torch import nn

        return nn.CrossEntropyLoss(reduction="none")

    def weights(self, targets: Tensor, class_counts: Sequence[int]) -> Tensor:
        """Return each sample's weight, (B,)."""
        balanced = _balanced(tuple(class_counts), targets.device)
        return targets.to(balanced) @ balanced if targets.ndim == 2 else balanced[targets]


@lru_cache(maxsize=16)  # a step must not wait for a copy to the device
def _balanced(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the weight of each class, fp32 (C,)."""
    import torch

    share = sum(counts) / len(counts)
    return torch.tensor([share / max(count, 1) for count in counts], device=device)
