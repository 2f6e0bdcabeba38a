"""Per-sample losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat

from sightx.plugin import Loss, call_declared

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn


class CrossEntropy(Loss):
    """Cross-entropy with equal weights for all samples.

    The loss of a sample is -sum_c t_c log p_c, in nats, where p is the softmax of the outputs
    (B, classes). Targets t are classes (B,), or probabilities (B, classes) once they are mixed.
    """

    name = "cross-entropy"
    other_names = (
        "ce", "categorical_crossentropy", "sparse_categorical_crossentropy", "softmax", "nll",
        "NLLLoss", "bce", "BCELoss", "BCEWithLogitsLoss", "binary_crossentropy", "label_smoothing",
        "LabelSmoothingCrossEntropy",
    )  # fmt: skip
    capturable = True
    takes_mixed = True

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of each target that is distributed evenly over all classes, from 0 to below 1."""

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return torch's CrossEntropyLoss without reduction."""
        from torch import nn

        return nn.CrossEntropyLoss(reduction="none", label_smoothing=self.label_smoothing)


class Focal(Loss):
    """Focal loss: cross-entropy that counts less for samples that are classified well.

    The loss of a sample is -(1 - p)^gamma log p, where p is the softmax probability of its class
    (T.-Y. Lin et al., ICCV 2017, for several classes); of a mixed target it is the mean of its
    classes' losses.
    """

    name = "focal"
    other_names = ("sigmoid_focal_loss",)
    capturable = True
    takes_mixed = True

    gamma: NonNegativeFloat = 2.0
    """How much less samples count that are classified well; 0 is cross-entropy."""

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the focal loss."""
        from .loss_modules import FocalLoss

        return FocalLoss(self.gamma)


class InverseFrequencyCrossEntropy(Loss):
    """Cross-entropy with larger weights for rare classes.

    A sample of class c has the weight N / (C n_c), where the train split has N samples of C
    classes and n_c samples of class c; this is scikit-learn's class_weight="balanced". A class that
    has no training samples counts as if it had one, so that its samples in other splits get the
    largest weight instead of an infinite one. The weight of a mixed target (B, classes) is the
    mean of the classes' weights.
    """

    name = "inverse-frequency-cross-entropy"
    other_names = (
        "weighted-cross-entropy", "class-weighted-cross-entropy", "balanced-cross-entropy",
        "weighted_ce", "class_weights", "class_weight",
    )  # fmt: skip
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


class NoiseAdaptation(Loss):
    """Cross-entropy with labels that may be wrong: how often is learned for each pair of classes.

    The loss of a sample with the given label k is -log sum_c p_c T_ck, in nats, where p is the
    softmax of the outputs (B, classes) and T_ck the probability that a sample of class c was
    labelled as k. Each row of the noise layer T is the softmax of trainable weights, which belong
    to the parameter group `loss`. Predictions are p: the noise layer is used in training only
    (S. Sukhbaatar et al., ICLR workshop 2015; J. Goldberger and E. Ben-Reuven, ICLR 2017). Weight
    decay makes T more diffuse, as in the former paper. Mixed targets t (B, classes) have the loss
    -sum_k t_k log sum_c p_c T_ck.
    """

    name = "noise-adaptation"
    capturable = True
    takes_mixed = True

    noise: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """First fraction of wrong labels in each class, spread evenly over the other classes."""

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the cross-entropy behind a noise layer."""
        from .loss_modules import NoiseAdaptationLoss

        return NoiseAdaptationLoss(len(class_counts), self.noise)


class SampleWeighted(Loss):
    """Another loss, whose samples have the weights that a column of the dataset says.

    A step divides by the sum of the weights of its batch, so their mean does not matter. Weights of
    `base` multiply.
    """

    name = "sample-weighted"

    base: Loss
    """The loss."""
    column: str
    """The extra column of the dataset that has the weight of each sample, a number above 0."""

    @property
    def balances(self) -> bool:
        """Return whether rare classes get larger weights."""
        return self.base.balances

    @property
    def needs_one_score(self) -> bool:
        """Return whether `base` is for a model with one score."""
        return self.base.needs_one_score

    def outputs(self, classes: int) -> int:
        """Return the number of outputs of `base`."""
        return self.base.outputs(classes)

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the module of `base`."""
        module: nn.Module = call_declared(self.base.build, class_counts=class_counts)
        return module

    def weights(
        self,
        targets: Tensor,
        class_counts: Sequence[int],
        *,
        columns: Mapping[str, np.ndarray[Any, Any]],
        progress: float = 1.0,
    ) -> Tensor:
        """Return the numbers of the column, times the weights of `base`, float32 (B,)."""
        import torch

        from sightx.plugin import to_device

        numbers = torch.tensor([_positive(cell) for cell in columns[self.column]])
        weights = to_device(numbers, targets.device)
        offered = {"class_counts": class_counts, "columns": columns, "progress": progress}
        others: Tensor | None = call_declared(self.base.weights, targets, **offered)
        return weights if others is None else weights * others

    def probabilities(self, outputs: Tensor, *, classes: int) -> Tensor:
        """Return the probabilities of `base`."""
        result: Tensor = call_declared(self.base.probabilities, outputs, classes=classes)
        return result

    def decision(self, probabilities: Tensor) -> Tensor:
        """Return the decisions of `base`."""
        return self.base.decision(probabilities)


def _positive(cell: str) -> float:
    """Return a cell as a number above 0; NaN for any other cell, which a check finds."""
    try:
        number = float(cell)
    except ValueError:
        return math.nan
    return number if number > 0 else math.nan


@lru_cache(maxsize=16)  # A step must not wait for a copy to the device.
def _class_weights(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the weight of each class, float32 (classes,)."""
    import torch

    mean = sum(counts) / len(counts)
    return torch.tensor([mean / max(count, 1) for count in counts], device=device)
