"""Compare an exported network with PyTorch on the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sightx.errors import Problem, RunError

if TYPE_CHECKING:
    from torch import Tensor

    from sightx.inference.predictor import Predictor
    from sightx.records.predictions import Predictions

    Array = np.ndarray[Any, Any]
    Network = Callable[[Tensor], tuple[Array, Array]]

BOUND = 1e-5
"""Largest difference of a probability that counts as rounding error."""
BATCHES = (1, 3, 8)


@dataclass(frozen=True)
class Parity:
    """How far an exported network is from PyTorch.

    Attributes:
        name: What was compared.
        images: The number of images.
        difference: The largest difference of a probability, over all batch sizes.
        same_decisions: The number of images with the same decision in each of the batch sizes.
    """

    name: str
    images: int
    difference: float
    same_decisions: int

    def __str__(self) -> str:
        """Return one line."""
        sizes = ", ".join(map(str, BATCHES))
        return (
            f"{self.name}: {self.images} images in batches of {sizes}: "
            f"largest difference of a probability {self.difference:.1e} (bound {BOUND:.0e}), "
            f"decisions {self.same_decisions}/{self.images} the same"
        )

    def checked(self) -> Parity:
        """Return the comparison; raise RunError if a difference is beyond the bound, or NaN."""
        if not self.difference <= BOUND:
            hint = "a postprocess that changes probabilities needs calibrate(); see docs/export.md"
            raise RunError(Problem("not-equal", f"not equal to PyTorch: {self}", hint))
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {**self.__dict__, "bound": BOUND, "batches": BATCHES}


def predict_one_by_one(predictor: Predictor, pixels: Tensor) -> Predictions:
    """Return PyTorch's predictions for pixels, uint8 (N, C, H, W), in batches of one."""
    return predictor.table(torch.cat([predictor.outputs(image[None]) for image in pixels]))


def largest_difference(actual: Array, expected: Array) -> float:
    """Return the largest absolute difference; infinity if a value is not a number."""
    return float(np.nan_to_num(np.abs(actual - expected).max(), nan=np.inf))


def compare(
    name: str, predictor: Predictor, network: Network, pixels: Tensor, table: Predictions
) -> Parity:
    """Compare a network with PyTorch on pixels, uint8 (N, C, H, W), at batches of 1, 3 and 8.

    `network` maps pixels to probabilities (B, classes) and outputs (B, K); `table` has PyTorch's
    predictions for the same pixels.
    """
    difference, same = 0.0, np.ones(len(pixels), bool)
    for size in BATCHES:
        starts = range(0, len(pixels), size)
        answers = [network(pixels[start : start + size]) for start in starts]
        probabilities, outputs = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        difference = max(difference, largest_difference(probabilities, table.probabilities))
        same &= predictor.table(torch.from_numpy(outputs)).decisions == table.decisions
    return Parity(name, len(pixels), difference, int(same.sum()))
