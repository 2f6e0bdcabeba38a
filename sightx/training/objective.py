"""What training minimises: one number a sample, weighed and divided once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightx.errors import PluginError, Problem
from sightx.registry.components import call
from sightx.registry.kinds import Loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Objective:
    """Bind a loss to the training side's class counts and to a device."""

    def __init__(self, loss: Loss, class_counts: Sequence[int], device: torch.device) -> None:
        self._loss = loss
        self._counts = tuple(class_counts)
        self._each = call(loss.build, class_counts=self._counts).to(device)

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weighed losses' sum and the weights' sum; None where all weigh one."""
        losses = self._each(outputs.float(), targets)
        if losses.shape != targets.shape[:1]:
            raise self._misshapen(losses, targets)
        weights = call(self._loss.weights, targets, class_counts=self._counts)
        if weights is None:
            return losses.sum(), None
        return (losses * weights).sum(), weights.sum()

    def _misshapen(self, losses: Tensor, targets: Tensor) -> PluginError:
        found, wanted = tuple(losses.shape), tuple(targets.shape[:1])
        message = f"{self._loss.name} returns {found} for {len(targets)} samples, expected {wanted}"
        hint = "one number a sample: leave out .mean(), the runner divides"
        return PluginError(Problem("loss-shape", message, hint, "loss.use"))

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return (B, classes)."""
        return self._loss.probabilities(outputs)

    def decisions(self, outputs: Tensor) -> Tensor:
        """Return the class that each row of outputs stands for, (B,)."""
        return self._loss.decision(self._loss.probabilities(outputs))
