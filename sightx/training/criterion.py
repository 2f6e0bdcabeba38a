"""What training minimises: one number a sample, weighed and divided once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightx.errors import PluginError, Problem
from sightx.registry.components import call_declared
from sightx.registry.kinds import Loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Criterion:
    """Bind a loss to the training side's class counts and to a device."""

    def __init__(self, loss: Loss, class_counts: Sequence[int], device: torch.device) -> None:
        self.loss = loss
        self._counts = tuple(class_counts)
        cls = type(loss)
        self._weighs = cls.weights is not Loss.weights
        self._largest = (cls.probabilities, cls.decision) == (Loss.probabilities, Loss.decision)
        self._each = call_declared(loss.build, class_counts=self._counts).to(device)

    def each(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a loss and a weight a sample, (B,); None where all weigh one."""
        losses = self._each(outputs.float(), targets)
        if losses.ndim != 1 or losses.size(0) != targets.size(0):
            raise self._misshapen(losses, targets)
        if not self._weighs:
            return losses, None
        return losses, call_declared(self.loss.weights, targets, class_counts=self._counts)

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weighed losses' sum and the weights' sum; None where all weigh one."""
        losses, weights = self.each(outputs, targets)
        if weights is None:
            return losses.sum(), None
        return (losses * weights).sum(), weights.sum()

    def _misshapen(self, losses: Tensor, targets: Tensor) -> PluginError:
        found, wanted = tuple(losses.shape), tuple(targets.shape[:1])
        message = f"{self.loss.name} returns {found} for {len(targets)} samples, expected {wanted}"
        hint = "one number a sample: leave out .mean(), the runner divides"
        return PluginError(Problem("loss-shape", message, hint, "loss.use"))

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return (B, classes)."""
        return self.loss.probabilities(outputs)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many decisions hit the target, or its largest share."""
        hard = targets if targets.ndim == 1 else targets.argmax(dim=1)
        # The largest output has the largest share of a softmax: most losses need not compute it.
        decided = outputs.argmax(dim=1) if self._largest else self.decisions(outputs.detach())
        hits = decided == hard
        return hits.count_nonzero() if hits.is_cpu else hits.sum()  # each is the faster one there

    def decisions(self, outputs: Tensor) -> Tensor:
        """Return the class that each row of outputs stands for, (B,)."""
        return self.loss.decision(self.loss.probabilities(outputs))
