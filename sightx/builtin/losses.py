"""Per-sample losses."""

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
    """Cross-entropy with equal weights for all samples.

    The loss of a sample is -sum_c t_c log p_c, in nats, where p is the softmax of the outputs
    (B, classes). Targets t are classes (B,), or probabilities (B, classes) once they are mixed.
    """

    name = "cross-entropy"
    capturable = True
    takes_mixed = True

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of each target that is distributed evenly over all classes, from 0 to below 1."""

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return torch's CrossEntropyLoss without reduction."""
        from torch import nn

        return nn.CrossEntropyLoss(reduction="none", label_smoothing=self.label_smoothing)


class InverseFrequencyCrossEntropy(Loss):
    """Cross-entropy with larger weights for rare classes.

    A sample of class c has the weight N / (C n_c), where the train split has N samples of C
    classes and n_c samples of class c; this is scikit-learn's class_weight="balanced". A class that
    has no training samples counts as if it had one, so that its samples in other splits get the
    largest weight instead of an infinite one. The weight of a mixed target (B, classes) is the
    mean of the classes' weights.
    """

    name = "inverse-frequency-cross-entropy"
    capturable = True
    balances = True
    takes_mixed = True

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return torch's CrossEntropyLoss without reduction and weights."""
        from torch import nn

        return nn.CrossEntropyLoss(reduction="none")

    def weights(self, targets: Tensor, class_counts: Sequence[int]) -> Tensor:
        """Return the weight of each sample, float32 (B,)."""
        weights = _class_weights(tuple(class_counts), targets.device)
        return targets.to(weights) @ weights if targets.ndim == 2 else weights[targets]


@lru_cache(maxsize=16)  # A step must not wait for a copy to the device.
def _class_weights(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the weight of each class, float32 (classes,)."""
    import torch

    mean = sum(counts) / len(counts)
    return torch.tensor([mean / max(count, 1) for count in counts], device=device)
