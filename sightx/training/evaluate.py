"""From a network and a side of the table to predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sightx.data.batches import Batches, Positions
from sightx.data.table import ImageTable
from sightx.evaluation.predictions import Predictions
from sightx.training.objective import Objective
from sightx.training.step import autocast

if TYPE_CHECKING:
    from torch import Tensor


class Scores:
    """Collect the outputs of a side, batch by batch; their order is the positions'."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._outputs: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._weights: list[Tensor | float] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Take a batch's outputs; nothing waits for the device."""
        total, weight = self._objective.sums(outputs, targets)
        self._outputs.append(outputs.float())
        self._losses.append(total)
        self._weights.append(len(targets) if weight is None else weight)

    @property
    def loss(self) -> float:
        """Return the weighed mean of all losses; NaN without any."""
        weight = sum(float(weight) for weight in self._weights)
        return sum(float(loss) for loss in self._losses) / weight if weight else float("nan")

    def predictions(self, table: ImageTable, positions: Positions) -> Predictions:
        """Return the table of predictions."""
        outputs = torch.cat(self._outputs)
        probabilities = self._objective.probabilities(outputs)
        frame = table.frame.iloc[positions]
        return Predictions(
            keys=tuple(frame["path"].astype(str)),
            groups=tuple(frame["group"].astype(str)),
            labels=frame["label"].to_numpy(np.int64),
            outputs=outputs.cpu().numpy(),
            probabilities=probabilities.cpu().numpy(),
            decisions=self._objective.decisions(outputs).cpu().numpy(),
            classes=table.classes,
            ordered=table.ordered,
        )


@torch.no_grad()
def outputs(module: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return the network's outputs for one batch, in evaluation mode."""
    with autocast(images.device, precision):
        result: Tensor = module(images)
    return result


def score(
    module: nn.Module,
    batches: Batches,
    positions: Positions,
    scores: Scores,
    size: int,
    precision: str,
) -> Iterator[int]:
    """Predict a side into `scores`, and yield how many samples are done after each batch."""
    module.eval()
    for start in range(0, len(positions), size):
        images, targets = batches.plain(positions[start : start + size])
        scores.add(outputs(module, images, precision), targets)
        yield min(start + size, len(positions))
