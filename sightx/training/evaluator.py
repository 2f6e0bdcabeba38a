"""Evaluate a network: from a split to predictions and a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sightx.data.loader.loader import BatchLoader
from sightx.distributed.collectives import Collectives
from sightx.records.pixels import Positions
from sightx.records.predictions import Predictions
from sightx.records.table import ImageTable
from sightx.registry import results
from sightx.seeds import seed_of
from sightx.spec.experiment import Training
from sightx.training.step import Criterion, autocast, seed_generators

if TYPE_CHECKING:
    from torch import Tensor


class Evaluator:
    """Predict samples batch by batch: iterate over it, then read the loss and the predictions.

    With several processes each one predicts its own batches, with the buffers of rank 0; afterwards
    rank 0 has all predictions and the other ranks have their own. The random generators are seeded
    for each batch, so a network that draws in evaluation too gives the same outputs every time.
    """

    def __init__(
        self,
        module: nn.Module,
        criterion: Criterion,
        loader: BatchLoader,
        positions: Positions,
        settings: Training,
        collectives: Collectives | None = None,
    ) -> None:
        self._module, self._criterion, self._loader = module, criterion, loader
        self._positions, self._settings = positions, settings
        self._collectives = collectives or Collectives()
        self._outputs: list[Tensor] = []
        self._losses: list[Tensor] = []  # weighted sums, one per batch
        self._weights: list[Tensor] = []

    def __iter__(self) -> Iterator[int]:
        """Predict one batch per rank, then yield how many samples are done, until all are."""
        self._module.eval()
        self._criterion.module.eval()
        self._collectives.broadcast_(list(self._module.buffers()))
        rank, ranks, done = self._collectives.rank, self._collectives.world_size, 0
        size, device = self._settings.batch_size, self._loader.device
        starts = range(0, len(self._positions), size)
        parts = [self._positions[start : start + size] for start in starts]
        with closing(self._loader.iter_batches(parts[rank::ranks], normalize=True)) as batches:
            for first in range(0, len(parts), ranks):
                for rows, images, targets in islice(batches, 1):
                    seed = seed_of(self._loader.seed, "evaluation", first + rank)
                    seed_generators(device, seed)
                    outputs = forward(self._module, images, self._settings.precision)
                    self._add(outputs, targets, rows)
                done += sum(map(len, parts[first : first + ranks]))
                yield done
        self._gather(parts)

    def _add(self, outputs: Tensor, targets: Tensor, rows: Positions) -> None:
        loss, weight = self._criterion.weighted_sum(outputs, targets, rows)
        self._outputs.append(outputs)
        self._losses.append(loss)
        self._weights.append(loss.new_tensor(len(targets)) if weight is None else weight)

    def _gather(self, parts: list[Positions]) -> None:
        """Bring the results of all batches to rank 0, in order."""
        scalars = [1] * len(parts)
        self._outputs = self._collectives.gather(self._outputs, [len(part) for part in parts])
        self._losses = self._collectives.gather(self._losses, scalars)
        self._weights = self._collectives.gather(self._weights, scalars)
        if not self._collectives.is_main_process:
            local = parts[self._collectives.rank :: self._collectives.world_size]
            self._positions = np.concatenate([*local, self._positions[:0]])

    @property
    def loss(self) -> float:
        """Return the weighted mean of the per-sample losses; NaN without samples."""
        if not self._losses:
            return math.nan
        losses, weights = (torch.stack(sums).tolist() for sums in (self._losses, self._weights))
        return sum(losses) / sum(weights) if any(weights) else math.nan

    def predictions(self, table: ImageTable) -> Predictions:
        """Return the predictions; the positions are rows of `table`."""
        outputs = torch.cat(self._outputs)
        frame = table.frame.iloc[self._positions]
        predictions = Predictions(
            keys=tuple(frame["path"].astype(str)),
            groups=tuple(frame["group"].astype(str)),
            labels=frame["label"].to_numpy(np.int64),
            outputs=outputs.cpu().numpy(),
            probabilities=self._criterion.probabilities(outputs).cpu().numpy(),
            decisions=self._criterion.decisions(outputs).cpu().numpy(),
            classes=table.classes,
            ordered=table.ordered,
            columns=table.extra_columns(self._positions),
        )
        results.check_probabilities(self._criterion.loss.probabilities, predictions)
        results.check_decisions(self._criterion.loss.decision, predictions)
        return predictions


@torch.no_grad()
def forward(module: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return the outputs of the network for one batch, float32 (B, K)."""
    with autocast(images.device, precision):
        outputs: Tensor = module(images)
    return outputs.float()
