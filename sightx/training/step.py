"""The training step: forward, loss and backward of each micro-batch, then one update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sightx.data.loader.loader import Batch, BatchLoader
from sightx.distributed.collectives import Collectives
from sightx.errors import PluginError, Problem
from sightx.records.pixels import Positions
from sightx.records.table import ImageTable
from sightx.registry import results
from sightx.registry.components import call_declared, remember_component
from sightx.registry.kinds import Loss
from sightx.seeds import seed_of
from sightx.spec.experiment import Training
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.profiling import span
from sightx.training.schedule import weights_declare

if TYPE_CHECKING:
    from torch import Tensor

StepFunction = Callable[[Batch, int, Sequence[float]], tuple["Tensor", "Tensor"]]
"""A function like `TrainStep.__call__`: (batch, step, lr_factors) to (loss, num_correct)."""


@dataclass(frozen=True)
class TrainStep:
    """Train on one batch: the same, to rounding, for any number of micro-batches and processes.

    A batch has the positions of the whole batch, and the pixels and targets of this rank's
    micro-batches. `base_lrs` are the learning rates of the optimizer's parameter groups. Each step
    writes the norm of its gradient before clipping into `grad_norm`, a scalar on the device; None
    means that it is not computed. An optimizer with two passes (SAM) gets a closure that computes
    the gradient of the same batch again, with the same draws; `buffers` are those of the network.
    """

    network: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    base_lrs: Sequence[float]
    criterion: Criterion
    loader: BatchLoader
    settings: Training
    guard: NonFiniteGuard
    collectives: Collectives
    grad_norm: Tensor | None = None
    has_two_passes: bool = False
    buffers: Sequence[Tensor] = ()

    def __call__(
        self, batch: Batch, step: int, lr_factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the number of correct answers, as scalars on the device.

        `step` counts from 0; `lr_factors` has a factor per parameter group. Raises NonFiniteError;
        the parameters are then as they were.
        """
        if self.has_two_passes:
            return self.two_passes(batch, step, lr_factors)
        loss, num_correct = self.compute_gradient(batch, step, lr_factors)
        self.set_lr(lr_factors)
        self.update()
        return loss, num_correct

    def compute_gradient(
        self, batch: Batch, step: int, lr_factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Compute the gradient of a batch, none for frozen groups; return loss and correct answers.

        Raises NonFiniteError.
        """
        self.zero_grad()
        micro_batches = self.micro_batches(batch, step)
        progress = step / self.loader.steps
        loss, num_correct = self.forward_backward(micro_batches, batch.positions, progress)
        self.guard.check(loss, step, batch.positions)
        if 0.0 in lr_factors:  # a group whose factor is 0 is frozen: its optimizer state stays too
            for group, factor in zip(self.optimizer.param_groups, lr_factors, strict=True):
                for weight in group["params"] if factor == 0 else ():
                    weight.grad = None
        return loss, num_correct

    def two_passes(
        self, batch: Batch, step: int, lr_factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Train with an optimizer that computes the gradient of the batch again, where it likes.

        Return the loss and the correct answers of the first pass. Buffers keep its values: running
        statistics are those of the weights, and not of the ones that the optimizer tries.
        """
        unchanged = batch._replace(pixels=batch.pixels.clone())  # a network may change its input
        loss, num_correct = self.compute_gradient(batch, step, lr_factors)
        buffers = [buffer.clone() for buffer in self.buffers]

        def second_pass() -> Any:
            again, _ = self.compute_gradient(unchanged, step, lr_factors)
            for buffer, value in zip(self.buffers, buffers, strict=True):
                buffer.copy_(value)
            self._clip_gradient()
            return again

        self.set_lr(lr_factors)
        self.optimizer.step(second_pass)
        return loss, num_correct

    def micro_batches(self, batch: Batch, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and targets of this rank's micro-batches.

        The random numbers of augmentation and of the network depend only on the seed, the step and
        the index of the micro-batch in the whole batch.
        """
        size = self.settings.micro_batch_size
        pairs: Iterable[tuple[Tensor, Tensor]] = ((batch.pixels, batch.targets),)
        if size and len(batch.pixels) > size:
            parts = (torch.split(tensor, size) for tensor in (batch.pixels, batch.targets))
            pairs = zip(*parts, strict=True)
        for local_index, (pixels, targets) in enumerate(pairs):
            index = self.collectives.rank + local_index * self.collectives.world_size
            seed_generators(self.loader.device, seed_of(self.loader.seed, "draws", step, index))
            if self.loader.augments:
                with span("augment"):
                    yield self.loader.augment(pixels, targets, step, index)
            else:
                yield pixels, targets

    def forward_backward(
        self,
        micro_batches: Iterable[tuple[Tensor, Tensor]],
        positions: Positions,
        progress: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Compute the gradient of a batch of all ranks; return its loss and correct answers.

        `positions` are the rows of the whole batch.
        """
        ranks, batch_size = self.collectives.world_size, len(positions)
        size = self.settings.micro_batch_size or batch_size
        count = len(self.collectives.local_micro_batches(batch_size, size))
        local = self.collectives.local_positions(positions, size)
        # DistributedDataParallel divides the sum of gradients by the number of ranks. A rank that
        # has no micro-batch in a ragged last batch computes a copy of another one, which must not
        # count: its gradient is divided by infinity.
        divisor = batch_size / ranks if count else math.inf
        sums = []
        for number, (images, targets) in enumerate(micro_batches, start=1):
            rows = local[(number - 1) * size : number * size]
            with self.collectives.no_sync(self.network, last=number >= count):
                sums.append(self._forward_backward(images, targets, rows, divisor, progress))
        totals = tuple(_sum(scalars) for scalars in zip(*sums, strict=True))
        if ranks > 1:
            stacked = torch.stack(totals)
            totals = self.collectives.all_reduce_sum(stacked if count else stacked.zero_()).unbind()
            for parameter in self.criterion.parameters.values():  # DDP knows the network's only
                if parameter.grad is not None:
                    self.collectives.all_reduce_sum(parameter.grad).div_(ranks)
        loss, num_correct, *weight = totals
        loss = loss / ranks if ranks > 1 else loss
        if not weight:
            return loss, num_correct
        # Weighted samples: the mean divides by the sum of the weights of the whole batch.
        factor = batch_size / weight[0]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        torch._foreach_mul_(gradients, factor)
        return loss * factor, num_correct

    def _forward_backward(
        self, images: Tensor, targets: Tensor, rows: Positions, divisor: float, progress: float
    ) -> tuple[Tensor, ...]:
        """Add the gradient of a micro-batch; return its loss, correct answers, and any weights."""
        with span("forward"):
            with self.precision:
                outputs = self.network(images)
            losses, weights = self.criterion(outputs, targets, rows, progress)
        with span("backward"):
            if weights is None:
                shares = losses.new_full(losses.shape, 1 / divisor)
            else:
                shares = weights.to(losses.dtype) / divisor
            loss = losses.dot(shares)
            torch.autograd.backward(loss)
        sums = loss.detach(), self.criterion.num_correct(outputs, targets)
        return sums if weights is None else (*sums, weights.sum())

    def update(self) -> None:
        """Clip the gradient and let the optimizer update the parameters."""
        with span("optimizer"):
            self._clip_gradient()
            self.optimizer.step()

    def _clip_gradient(self) -> None:
        """Limit the gradient's norm, and store the norm that it had if somebody wants it."""
        limit = self.settings.clip_grad_norm
        if limit:
            norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        elif self.grad_norm is not None:
            norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if self.grad_norm is not None:
            self.grad_norm.copy_(norm)

    def zero_grad(self) -> None:
        """Remove the gradients."""
        for weight in self.parameters:
            weight.grad = None

    def set_lr(self, factors: Sequence[float]) -> None:
        """Set the learning rates to `factors` times the base ones; on CUDA, rounded to float32.

        A CUDA graph reads them as float32, and a replayed step must equal an eager one.
        """
        groups = self.optimizer.param_groups
        for group, base_lr, factor in zip(groups, self.base_lrs, factors, strict=True):
            lr = base_lr * factor
            group["lr"] = float(np.float32(lr)) if self.loader.device.type == "cuda" else lr

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the optimizer updates."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    @cached_property
    def precision(self) -> AbstractContextManager[object]:
        """Return the context in which the network computes."""
        return autocast(self.loader.device, self.settings.precision)


class Criterion:
    """A loss with its per-sample weights, for the class counts of the training split.

    `module` computes the losses; its first weights, if it has any, depend on the seed. `table` has
    the extra columns of the samples.
    """

    def __init__(
        self,
        loss: Loss,
        class_counts: Sequence[int],
        device: torch.device,
        seed: int = 0,
        table: ImageTable | None = None,
    ) -> None:
        self.loss = loss
        self._class_counts = tuple(class_counts)
        self._is_checked = False  # what the first batch returns is checked
        cls = type(loss)
        self._has_weights = cls.weights is not Loss.weights
        self._columns: Mapping[str, np.ndarray[Any, Any]] = {}
        if table is not None and weights_declare(loss, "columns"):
            self._columns = table.extra_columns(np.arange(len(table)))
        # The largest output has the largest softmax: then training need not compute it.
        self._decides_largest = (cls.probabilities, cls.decision) == (
            Loss.probabilities,
            Loss.decision,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(seed, "loss"))
            self.module = results.loss_module(loss, self._class_counts).to(device)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable weights of the loss, by their names in parameter groups."""
        named = self.module.named_parameters(prefix="loss")
        return {name: weight for name, weight in named if weight.requires_grad}

    def __call__(
        self, outputs: Tensor, targets: Tensor, rows: Positions, progress: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """Return per-sample losses (B,) and per-sample weights (B,), None for equal weights.

        `rows` (B,) are those of the table. `progress` is the part of all steps that is done. In
        evaluation it is 1, so that the losses of all epochs can be compared.
        """
        try:
            losses = self.module(outputs.float(), targets)
        except Exception as error:
            remember_component(error, self.loss)
            raise
        if not isinstance(losses, torch.Tensor) or losses.shape != targets.shape[:1]:
            raise self._shape_error(losses, targets)
        weights = None
        if self._has_weights:
            weights = call_declared(
                self.loss.weights,
                targets,
                class_counts=self._class_counts,
                columns={name: cells[rows] for name, cells in self._columns.items()},
                progress=progress,
            )
        if not self._is_checked:
            has_gradient = torch.is_grad_enabled() and outputs.requires_grad
            results.check_losses(self.loss, losses, weights, has_gradient=has_gradient)
            self._is_checked = True
        return losses, weights

    def weighted_sum(
        self, outputs: Tensor, targets: Tensor, rows: Positions
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the weighted losses and that of the weights; None for equal weights."""
        losses, weights = self(outputs, targets, rows)
        if weights is None:
            return losses.sum(), None
        return (losses * weights).sum(), weights.sum()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the probabilities (B, classes) of outputs (B, K)."""
        method, classes = self.loss.probabilities, len(self._class_counts)
        result: Tensor = call_declared(method, outputs, classes=classes)
        results.check_answer(method, result, (len(outputs), classes))
        return result

    def decisions(self, outputs: Tensor) -> Tensor:
        """Return the decided class (B,) of each row of outputs (B, K)."""
        result: Tensor = call_declared(self.loss.decision, self.probabilities(outputs))
        results.check_answer(self.loss.decision, result, (len(outputs),))
        return result

    def num_correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many decisions are the target, or the largest of mixed targets; a scalar."""
        classes = targets if targets.ndim == 1 else targets.argmax(dim=1)
        largest = self._decides_largest
        decided = outputs.argmax(dim=1) if largest else self.decisions(outputs.detach())
        is_correct = decided == classes
        # Each is the faster one on its device.
        return is_correct.count_nonzero() if is_correct.is_cpu else is_correct.sum()

    def _shape_error(self, losses: Tensor, targets: Tensor) -> PluginError:
        shape = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
        expected = tuple(targets.shape[:1])
        message = (
            f"{self.loss.name} returns {shape} for {len(targets)} samples, expected {expected}"
        )
        hint = "return one number per sample: leave out .mean(), the step divides"
        return PluginError(Problem("loss-shape", message, hint, "loss.use"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a network computes; it can be entered many times."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the random generators that networks and augmentation use, on the CPU and the device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _sum(scalars: Sequence[Tensor]) -> Tensor:
    return scalars[0] if len(scalars) == 1 else torch.stack(tuple(scalars)).sum()
