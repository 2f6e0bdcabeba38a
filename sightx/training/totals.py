"""What the steps of an epoch add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Totals(NamedTuple):
    """Sum up the steps of an epoch: loss times samples, right answers, samples."""

    losses: Tensor | float = 0.0
    rights: Tensor | float = 0.0
    samples: int = 0

    def plus(self, loss: Tensor, right: Tensor, samples: int) -> Totals:
        """Return the sums with one more step, whose figures stay on the device where they are.

        On a processor they are read, since nobody waits for that there.
        """
        losses = self.losses + _exact(loss) * samples
        return Totals(losses, self.rights + _exact(right), self.samples + samples)


def _exact(number: Tensor) -> Tensor | float:
    """Return a number with the digits that a sum over an epoch wants; mps has no more."""
    if number.is_cpu:
        return number.item()
    return number.to(torch.float32 if number.is_mps else torch.float64)
