"""From positions to batches on a device: uint8 travels, everything else happens there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sightx.data.augmentation import augment
from sightx.data.rows import Rows
from sightx.registry.kinds import Augment, Statistics
from sightx.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

Positions = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batches:
    """Make batches of a table's rows.

    `statistics` are mean and deviation per channel, for pixels in [0, 1].
    """

    rows: Rows
    labels: np.ndarray[Any, Any]
    statistics: Statistics
    device: torch.device
    augments: tuple[Augment, ...] = ()
    seed: int = 0

    def plain(self, positions: Positions) -> tuple[Tensor, Tensor]:
        """Return normalised images (B, C, H, W) and targets (B,)."""
        images, targets = self._unit(positions)
        return self._normalise(images), targets

    def augmented(self, positions: Positions, *purpose: int) -> tuple[Tensor, Tensor]:
        """Return the same with random changes drawn for a purpose: a step and a micro-batch."""
        images, targets = self._unit(positions)
        if self.augments:
            rng = generator(self.seed, "augment", *purpose)
            images, targets = augment(images, targets, self.augments, rng)
        return self._normalise(images), targets

    def _unit(self, positions: Positions) -> tuple[Tensor, Tensor]:
        images = self.rows.gather(positions).to(self.device).float().div_(255)
        return images, torch.from_numpy(self.labels[positions]).to(self.device)

    def _normalise(self, images: Tensor) -> Tensor:
        mean, deviation = self._on_device
        return images.sub_(mean).div_(deviation)

    @cached_property
    def _on_device(self) -> list[Tensor]:
        """Return mean and deviation, (C, 1, 1): sent once, so that no batch waits for them."""
        return [
            torch.tensor(values, device=self.device).view(-1, 1, 1) for values in self.statistics
        ]
