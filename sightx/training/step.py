"""One step of the optimizer: the whole batch, in micro-batches, divided once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sightx.data.loader.loader import Batch, BatchLoader
from sightx.distributed.collectives import SingleProcess
from sightx.seeds import seed_of
from sightx.spec.experiment import Training
from sightx.training import setup
from sightx.training.criterion import Criterion
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.profiling import span

if TYPE_CHECKING:
    from torch import Tensor


class TrainStep:
    """Compute one step; the same whatever the number of micro-batches, to rounding.

    `accumulate` and `move` happen on the device alone: no number is read on the host there.
    """

    collectives = SingleProcess()

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Criterion,
        batches: BatchLoader,
        settings: Training,
        gate: NonFiniteGuard,
    ) -> None:
        self.network: Callable[[Tensor], Tensor] = module
        self.gate = gate
        self.optimizer, self._objective = optimizer, objective
        self.batches, self._settings = batches, settings
        self.weights = [w for group in optimizer.param_groups for w in group["params"]]
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._precision = autocast(batches.device, settings.precision)
        self.draws = setup.uses_rng(module, objective.loss, *batches.augments)
        self._reseed = make_seeder(batches.device)
        self._shares: dict[tuple[torch.Size, float], Tensor] = {}

    def __call__(self, batch: Batch, step: int, multiplier: float) -> tuple[Tensor, Tensor]:
        """Move the weights once; return the batch's loss and how many answers were right.

        Both are numbers on the device. Raises NonFiniteError before the weights move.
        """
        # 1. Nothing is left of the step before.
        self.clear()
        # 2. Each micro-batch adds its gradient.
        loss, right = self.accumulate(self.parts(batch, step), len(batch.positions))
        # 3. No weight moves by a loss that is not finite.
        self.gate.admit(loss, step, batch.positions)
        # 4. The weights move.
        self.rate(multiplier)
        self.move()
        return loss, right

    def clear(self) -> None:
        """Forget the gradients."""
        for weight in self.weights:
            weight.grad = None

    def rate(self, multiplier: float) -> None:
        """Set the groups' learning rates; on CUDA to what float32 can hold.

        A graph reads them so, and steps must not depend on who makes them.
        """
        cuda = self.batches.device.type == "cuda"
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            now = rate * multiplier
            group["lr"] = float(np.float32(now)) if cuda else now

    def seed(self, step: int, part: int) -> None:
        """Set what dropout and plugins draw from, for a micro-batch of a step."""
        if self.draws:
            self._reseed(seed_of(self.batches.seed, "draws", step, part))

    def parts(self, batch: Batch, step: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Return images and targets of one micro-batch after another, the draws made for it."""
        parts = self._cut(batch)
        return self._drawn(parts, step) if self.batches.augments or self.draws else parts

    def _drawn(
        self, parts: Iterable[tuple[Tensor, Tensor]], step: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for turn, (pixels, targets) in enumerate(parts):
            number = self.collectives.rank + turn * self.collectives.world_size
            part = pixels, targets
            self.seed(step, number)
            if self.batches.augments:
                with span("augment"):
                    part = self.batches.augmented(pixels, targets, step, number)
            yield part

    def _cut(self, batch: Batch) -> Iterable[tuple[Tensor, Tensor]]:
        """Return the micro-batches; a cut costs as much as a layer, so there is none for one."""
        size, whole = self._settings.micro_batch_size, (batch.pixels, batch.targets)
        if size is None or size >= len(batch.positions):
            return [whole]
        return zip(*(torch.split(tensor, size) for tensor in whole), strict=True)

    def accumulate(self, parts: Iterable[tuple[Tensor, Tensor]], of: int) -> tuple[Tensor, Tensor]:
        """Add up the gradients of micro-batches of `of` samples; return loss and right answers."""
        # Dividing each by the size keeps the sums small.
        found = [self.micro(images, targets, of) for images, targets in parts]
        one = len(found) == 1
        loss, right, weight = found[0] if one else map(sum_scalars, zip(*found, strict=True))
        return (loss if weight is None else self.divide(loss, of / weight)), right

    def divide(self, loss: Tensor, factor: Tensor) -> Tensor:
        """Divide weighed samples, the whole batch once: the gradients here, and return the loss."""
        torch._foreach_mul_([w.grad for w in self.weights if w.grad is not None], factor)
        return loss * factor

    def micro(
        self, images: Tensor, targets: Tensor, of: float
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add a micro-batch's gradient; return loss sum / `of`, right answers, weight sum."""
        with span("forward"):
            with self._precision:
                outputs = self.network(images)
            losses, weights = self._objective.each(outputs, targets)
        with span("backward"):
            # One product weighs and divides. (A gradient given to torch makes it import sympy.)
            shares = self._equal(losses, of) if weights is None else weights.to(losses.dtype) / of
            loss = losses.dot(shares)
            torch.autograd.backward(loss)
        right = self._objective.right(outputs, targets)
        return loss.detach(), right, None if weights is None else weights.sum()

    def _equal(self, losses: Tensor, of: float) -> Tensor:
        """Return the share of each of some samples that all weigh one, made once."""
        key = losses.shape, of
        if key not in self._shares:
            self._shares[key] = losses.detach().new_full(losses.shape, 1 / of)
        return self._shares[key]

    def move(self) -> None:
        """Move the weights along the gradients, at the groups' rates."""
        with span("optimizer"):
            if self._settings.clip_grad_norm:
                nn.utils.clip_grad_norm_(self.weights, self._settings.clip_grad_norm)
            self.optimizer.step()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which the network computes; it may be entered again and again."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def sum_scalars(numbers: Sequence[Any]) -> Any:
    """Return the sum of numbers on the device; None where there are none."""
    few = len(numbers) == 1 or numbers[0] is None
    return numbers[0] if few else torch.stack(tuple(numbers)).sum()


def make_seeder(device: torch.device) -> Callable[[int], None]:
    """Return what sets the generators that networks draw from, here and on the device."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        generators.append(
            torch.cuda.default_generators[
                torch.cuda.current_device() if device.index is None else device.index
            ]
        )

    def reseed(seed: int) -> None:
        for generator in generators:
            generator.manual_seed(seed)
        if device.type == "mps":
            torch.mps.manual_seed(seed)

    return reseed
