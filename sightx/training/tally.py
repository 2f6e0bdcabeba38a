"""Right answers, counted for many steps at once: counting costs as much as a small layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sightx.training.objective import Objective

if TYPE_CHECKING:
    from torch import Tensor

_STEPS = 32


class Tally:
    """Count what an objective calls right; take the place of its `right` in a step."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._answers: list[tuple[Tensor, Tensor]] = []
        self._none = torch.zeros((), dtype=torch.int64)

    def add(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Remember answers; return how many were right of those that are counted now."""
        self._answers.append((outputs.detach(), targets))
        return self.take() if len(self._answers) == _STEPS else self._none

    def take(self) -> Tensor:
        """Return how many were right of the answers that were not counted yet."""
        if not self._answers:
            return self._none
        outputs, targets = map(torch.cat, zip(*self._answers, strict=True))
        self._answers.clear()
        return self._objective.right(outputs, targets)
