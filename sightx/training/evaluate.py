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
from sightx.spec.experiment import Training
from sightx.training.objective import Objective
from sightx.training.step import autocast

if TYPE_CHECKING:
    from torch import Tensor


class Scores:
    """Predict samples batch by batch: iterate it, then ask for loss and predictions.

    Each turn yields how many samples are done; nothing waits for the device before the end.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        batches: Batches,
        positions: Positions,
        settings: Training,
    ) -> None:
        self._module, self._objective, self._batches = module, objective, batches
        self._positions, self._settings = positions, settings
        self._outputs: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._weights: list[Tensor | float] = []

    def __iter__(self) -> Iterator[int]:
        """Predict one batch a turn, in evaluation mode."""
        self._module.eval()
        size = self._settings.batch_size
        for start in range(0, len(self._positions), size):
            images, targets = self._batches.plain(self._positions[start : start + size])
            self._add(outputs(self._module, images, self._settings.precision), targets)
            yield start + len(targets)

    def _add(self, answers: Tensor, targets: Tensor) -> None:
        total, weight = self._objective.sums(answers, targets)
        self._outputs.append(answers)
        self._losses.append(total)
        self._weights.append(len(targets) if weight is None else weight)

    @property
    def loss(self) -> float:
        """Return the weighed mean of all losses; NaN without any."""
        weight = sum(float(weight) for weight in self._weights)
        return sum(float(loss) for loss in self._losses) / weight if weight else float("nan")

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
def outputs(module: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return the network's outputs for one batch, float (B, K)."""
    with autocast(images.device, precision):
        answers: Tensor = module(images)
    return answers.float()
