"""One step of several processes: each computes its own micro-batches, all move alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sightx.distributed.collectives import SingleProcess
from sightx.training.step import TrainStep, sum_scalars

if TYPE_CHECKING:
    from torch import Tensor


class SharedStep(TrainStep):
    """Compute one step together with other ranks; the same as alone, to rounding.

    A batch holds the positions of all ranks, but the pixels and targets of this one alone. A rank
    without a micro-batch in a ragged last batch has one of the others' there, which weighs nothing.
    """

    def __init__(self, module: nn.Module, *rest: Any, collectives: SingleProcess) -> None:
        super().__init__(module, *rest)
        self.collectives, self.network = collectives, collectives.wrap_ddp(module)

    def accumulate(self, parts: Iterable[tuple[Tensor, Tensor]], of: int) -> tuple[Tensor, Tensor]:
        """Add up the gradients of all ranks; return the loss and right answers of all."""
        last = len(self.collectives.local_micro_batches(of, self._settings.micro_batch_size)) - 1
        # Torch divides the sum of gradients by the number of ranks.
        size = of / self.collectives.world_size if last >= 0 else math.inf
        found = []
        for index, (images, targets) in enumerate(parts):
            with self.collectives.no_sync(self.network, index >= last):
                found.append(self.micro(images, targets, size))
        losses, rights, weights = zip(*found, strict=True)
        weighed = weights[0] is not None
        loss, right = (
            sum_scalars(losses) / self.collectives.world_size,
            sum_scalars(rights).to(losses[0].dtype),
        )
        sums = torch.stack(
            [loss, right, sum_scalars(weights) if weighed else torch.ones_like(loss)]
        )
        if last < 0:
            sums[1:] = 0
        loss, right, weight = self.collectives.all_reduce_sum(sums)
        return self.divide(loss, of / weight) if weighed else loss, right
