"""Per-sample losses for ordered classes, 0 to classes - 1, called grades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from sightx.plugin import Loss

if TYPE_CHECKING:
    from torch import Tensor, nn


class OrdinalRegression(Loss):
    """Squared error of one output, the grade as a real number.

    The loss is (s - k)^2 for the output s and the grade k; of a mixed target it is the mean of its
    grades' losses. The probability of grade k is proportional to exp(-(s - k)^2 / (2 spread^2)), so
    the expected grade rises with s, and the postprocessing `temperature` fits the spread,
    `cut-points` the decision, and `proportional-odds` a probability per grade between cut points.
    """

    name = "ordinal-regression"
    other_names = (
        "mse", "MSELoss", "l2", "regression", "ordinal", "SmoothL1Loss", "mean_squared_error",
    )  # fmt: skip
    needs_order = True
    capturable = True
    takes_mixed = True

    spread: PositiveFloat = 0.5
    """Standard deviation of the output around the grade, in grades; probabilities only use it."""

    def outputs(self, classes: int) -> int:
        """Return 1."""
        return 1

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the squared error."""
        from .loss_modules import SquaredGradeError

        return SquaredGradeError(len(class_counts))

    def probabilities(self, outputs: Tensor, *, classes: int) -> Tensor:
        """Return the probability of each grade, float32 (B, classes)."""
        import torch

        distance = outputs.float() - torch.arange(float(classes), device=outputs.device)
        return (-0.5 * (distance / self.spread).square()).softmax(dim=1)


class Coral(Loss):
    """CORAL: binary cross-entropies of "the grade is above k", for a network with one score.

    The loss is the sum over k of -log P(grade > k) or -log P(grade <= k), with the sigmoid of
    output k as P(grade > k) (W. Cao et al., Pattern Recognition Letters 2020). The outputs must
    differ by a bias each: use the model `coral-head`, which holds a network with one score. The
    decision is the number of thresholds k with P(grade > k) > 1/2.
    """

    name = "coral"
    needs_order = True
    needs_one_score = True
    capturable = True
    takes_mixed = True

    def outputs(self, classes: int) -> int:
        """Return one output per threshold, classes - 1."""
        return classes - 1

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the sum of binary cross-entropies."""
        from .loss_modules import ThresholdLoss

        return ThresholdLoss(len(class_counts), conditional=False)

    def probabilities(self, outputs: Tensor, *, classes: int) -> Tensor:
        """Return differences of P(grade > k), float32 (B, classes)."""
        from .loss_modules import from_thresholds

        return from_thresholds(outputs.float())

    def decision(self, probabilities: Tensor) -> Tensor:
        """Return the median grade."""
        from .loss_modules import median_class

        return median_class(probabilities)


class Corn(Loss):
    """CORN: binary cross-entropies of "the grade is above k", given that it is at least k.

    The loss is the sum over the thresholds k that the sample's grade reaches; P(grade > k) is the
    product of the sigmoids of outputs 0 to k (X. Shi et al., Pattern Analysis and Applications
    2023). In the paper each threshold's losses are divided by the number of samples in the batch
    that reach it; a sum per sample does not depend on the batch. The decision is the number of
    thresholds k with P(grade > k) > 1/2.
    """

    name = "corn"
    needs_order = True
    capturable = True
    takes_mixed = True

    def outputs(self, classes: int) -> int:
        """Return one output per threshold, classes - 1."""
        return classes - 1

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return the sum of conditional binary cross-entropies."""
        from .loss_modules import ThresholdLoss

        return ThresholdLoss(len(class_counts), conditional=True)

    def probabilities(self, outputs: Tensor, *, classes: int) -> Tensor:
        """Return differences of P(grade > k), float32 (B, classes)."""
        from .loss_modules import from_conditional_thresholds

        return from_conditional_thresholds(outputs.float())

    def decision(self, probabilities: Tensor) -> Tensor:
        """Return the median grade."""
        from .loss_modules import median_class

        return median_class(probabilities)
