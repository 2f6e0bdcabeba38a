"""From a network and a side of the table to predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sightx.data.loader.loader import BatchLoader
from sightx.distributed.collectives import SingleProcess
from sightx.records.pixels import Positions
from sightx.records.predictions import Predictions
from sightx.records.table import ImageTable
from sightx.seeds import seed_of
from sightx.spec.experiment import Training
from sightx.training import setup
from sightx.training.criterion import Criterion
from sightx.training.step import autocast, make_seeder

if TYPE_CHECKING:
    from torch import Tensor


class Evaluator:
    """Predict samples batch by batch: iterate it, then ask for loss and predictions.

    Each turn yields how many samples are done; nothing waits for the device before the end. Of
    several processes each predicts its own batches, with the first one's running statistics; the
    first has all answers in the end, the others only theirs. A network that draws even now draws
    the same for a batch whenever it is asked, so that figures can be had again.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Criterion,
        batches: BatchLoader,
        positions: Positions,
        settings: Training,
        collectives: SingleProcess | None = None,
    ) -> None:
        self._module, self._objective, self._batches = module, objective, batches
        self._positions, self._settings, self._collectives = (
            positions,
            settings,
            collectives or SingleProcess(),
        )
        self._outputs: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._weights: list[Tensor] = []

    def __iter__(self) -> Iterator[int]:
        """Predict one batch a turn, in evaluation mode."""
        self._module.eval()
        self._collectives.broadcast_(list(self._module.buffers()))
        size, of, done = self._settings.batch_size, self._collectives.world_size, 0
        draws = setup.uses_rng(self._module, self._objective.loss)
        reseed, seed = make_seeder(self._batches.device), self._batches.seed
        starts = range(0, len(self._positions), size)
        parts = [self._positions[start : start + size] for start in starts]
        with closing(
            self._batches.stream(parts[self._collectives.rank :: of], plain=True)
        ) as batches:
            for turn in range(0, len(parts), of):  # a batch of each rank
                for _, images, targets in islice(batches, 1):
                    if draws:
                        reseed(seed_of(seed, "evaluation", turn + self._collectives.rank))
                    self._add(forward(self._module, images, self._settings.precision), targets)
                done += sum(map(len, parts[turn : turn + of]))
                yield done
        self._collect(parts)

    def _add(self, answers: Tensor, targets: Tensor) -> None:
        total, weight = self._objective.sums(answers, targets)
        self._outputs.append(answers)
        self._losses.append(total)
        self._weights.append(total.new_tensor(len(targets)) if weight is None else weight)

    def _collect(self, parts: list[Positions]) -> None:
        """Bring the answers to all batches to the first rank, in their order."""
        ones = [1] * len(parts)
        self._outputs = self._collectives.gather(self._outputs, [len(part) for part in parts])
        self._losses = self._collectives.gather(self._losses, ones)
        self._weights = self._collectives.gather(self._weights, ones)
        if not self._collectives.is_main_process:
            own = parts[self._collectives.rank :: self._collectives.world_size]
            self._positions = np.concatenate([*own, self._positions[:0]])

    @property
    def loss(self) -> float:
        """Return the weighed mean of all losses; NaN without any."""
        if not self._losses:
            return float("nan")
        losses, weights = (torch.stack(sums).tolist() for sums in (self._losses, self._weights))
        return sum(losses) / sum(weights) if any(weights) else float("nan")

    def predictions(self, table: ImageTable) -> Predictions:
        """Return the predictions of the samples, which are rows of `table`."""
        answers = torch.cat(self._outputs)
        frame = table.frame.iloc[self._positions]
        return Predictions(
            keys=tuple(frame["path"].astype(str)),
            groups=tuple(frame["group"].astype(str)),
            labels=frame["label"].to_numpy(np.int64),
            outputs=answers.cpu().numpy(),
            probabilities=self._objective.probabilities(answers).cpu().numpy(),
            decisions=self._objective.decisions(answers).cpu().numpy(),
            classes=table.classes,
            ordered=table.ordered,
        )


@torch.no_grad()
def forward(module: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return the network's outputs for one batch, float (B, K)."""
    with autocast(images.device, precision):
        answers: Tensor = module(images)
    return answers.float()
