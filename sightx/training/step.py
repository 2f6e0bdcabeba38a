"""One step of the optimizer: the whole batch, in micro-batches, divided once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from sightx.data.batches import Batches, Positions
from sightx.errors import NonFiniteError, Problem
from sightx.seeds import seed_of
from sightx.spec.experiment import Training
from sightx.training.objective import Objective

if TYPE_CHECKING:
    from torch import Tensor


class StepRule:
    """Compute one step; the same whatever the number of micro-batches, to rounding."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        batches: Batches,
        settings: Training,
        names: Sequence[str],
    ) -> None:
        self._module, self._optimizer, self._objective = module, optimizer, objective
        self._batches, self._settings, self._names = batches, settings, names
        self._weights = [w for group in optimizer.param_groups for w in group["params"]]
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def __call__(self, positions: Positions, step: int, multiplier: float) -> tuple[Tensor, Tensor]:
        """Move the weights once; return the batch's loss and how many answers were right.

        Both are numbers on the device. Raises NonFiniteError before the weights move.
        """
        # 1. Nothing is left of the step before.
        self._optimizer.zero_grad(set_to_none=True)
        # 2. Each micro-batch adds its gradient; dividing by the size keeps the sums small.
        size = self._settings.micro_batch or len(positions)
        parts = [
            self._micro(positions[start : start + size], step, start // size, len(positions))
            for start in range(0, len(positions), size)
        ]
        losses, rights, weights = zip(*parts, strict=True)
        loss = torch.stack(losses).sum()
        # 3. Weighed samples: the whole batch is divided once, by the sum of its weights.
        if weights[0] is not None:
            factor = len(positions) / torch.stack(weights).sum()
            loss = loss * factor
            for weight in self._weights:
                if weight.grad is not None:
                    weight.grad.mul_(factor)
        self._refuse_nonfinite(loss, positions, step)
        # 4. The weights move.
        if self._settings.clip:
            nn.utils.clip_grad_norm_(self._weights, self._settings.clip)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * multiplier
        self._optimizer.step()
        return loss, torch.stack(rights).sum()

    def _micro(
        self, positions: Positions, step: int, part: int, of: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add a micro-batch's gradient; return loss sum / `of`, right answers, weight sum."""
        images, targets = self._batches.augmented(positions, step, part)
        _reseed(images.device, seed_of(self._batches.seed, "draws", step, part))
        with autocast(images.device, self._settings.precision):
            outputs = self._module(images)
        total, weight = self._objective.sums(outputs, targets)
        loss = total / of
        loss.backward()  # type: ignore[no-untyped-call]
        hard = targets if targets.ndim == 1 else targets.argmax(dim=1)
        right = (self._objective.decisions(outputs.detach()) == hard).sum()
        return loss.detach(), right, weight

    def _refuse_nonfinite(self, loss: Tensor, positions: Positions, step: int) -> None:
        if not bool(torch.isfinite(loss)):
            names = ", ".join(self._names[row] for row in positions[:3])
            message = f"non-finite loss at step {step + 1} ({len(positions)} samples: {names}, ...)"
            hint = "lower optimizer.lr, or set training.clip"
            raise NonFiniteError(Problem("non-finite", message, hint))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which the network computes."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _reseed(device: torch.device, seed: int) -> None:
    """Set the generators that dropout draws from, here and on the device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
