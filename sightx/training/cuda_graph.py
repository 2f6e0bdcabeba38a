"""Train on full batches by replaying a CUDA graph, once its steps have proved equal to eager ones.

A graph launches all kernels of a step at once: forward, loss, backward, clipping, optimizer. What
the host draws or decides is not in the graph: augmentation, seeds, learning rates. With
`execution.deterministic` a graph must give exactly the bits of eager steps.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import nn

from sightx.data.loader.loader import Batch
from sightx.spec.experiment import Experiment
from sightx.training.profiling import span
from sightx.training.schedule import weights_declare
from sightx.training.step import StepFunction, TrainStep

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("sightx")
_EAGER_STEPS = 3  # full batches before the trial: afterwards the optimizer has all of its state
_WARM_UP = 3  # calls before the capture: libraries allocate and choose their algorithms
_LR_FACTORS = (1.0, 0.5, 0.25)  # of the steps that are compared
_LOSS_TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}
_STATE_TOLERANCE = 0.05  # as a fraction of the distance that the steps have moved the state


def with_cuda_graph(step: TrainStep, module: nn.Module, experiment: Experiment) -> StepFunction:
    """Return a step that replays graphs, or the step itself if no graph can hold it."""
    if reason := why_not_graphable(experiment, step):
        _log.info("graph: no CUDA graph is replayed: %s", reason)
        return step
    return GraphedStep(step, module, experiment, CudaGraphs(step.loader.device))


def why_not_graphable(experiment: Experiment, step: TrainStep) -> str:
    """Return why no graph can hold a step; empty if one may be tried."""
    components = (experiment.model, experiment.loss, experiment.optimizer)
    undeclared = [f"the {item.kind} {item.name}" for item in components if not item.capturable]
    if undeclared:
        return f"{' and '.join(undeclared)} did not declare that one may hold it"
    for argument in ("columns", "progress"):
        if weights_declare(experiment.loss, argument):
            return f"the sample weights of {experiment.loss.name} depend on {argument}"
    if step.has_two_passes:
        return f"the optimizer {experiment.optimizer.name} needs two passes"
    if not step.guard.deferred:
        return "nothing on the device can stop the optimizer"
    return ""


class GraphedStep:
    """Train on full batches with a CUDA graph of a step, and on all other batches eagerly.

    After some eager steps the graph is captured and compared with them. If its results differ, all
    batches are trained on eagerly.
    """

    def __init__(
        self, step: TrainStep, module: nn.Module, experiment: Experiment, graphs: Graphs
    ) -> None:
        self._step, self._module, self._graphs = step, module, graphs
        settings, exact = experiment.training, experiment.execution.deterministic
        self._size = settings.batch_size
        self._loss_tolerance = 0.0 if exact else _LOSS_TOLERANCE[settings.precision]
        self._state_tolerance = 0.0 if exact else _STATE_TOLERANCE
        self._full_batches = 0
        self._replay: Callable[[], None] | None = None
        # What the graph reads and writes: micro-batches, learning rates, loss, correct answers.
        self._inputs: list[Tensor] = []
        self._lrs = [torch.zeros_like(step.guard.flag) for _ in step.optimizer.param_groups]
        self._loss, self._num_correct = (torch.zeros_like(step.guard.flag) for _ in range(2))

    def __call__(
        self, batch: Batch, step: int, lr_factors: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the number of correct answers, as scalars on the device."""
        if len(batch.positions) != self._size or 0.0 in lr_factors:  # a graph freezes no group
            return self._step(batch, step, lr_factors)
        if self._full_batches == _EAGER_STEPS:
            self._try_graph(batch, step, lr_factors)
        self._full_batches += 1
        if self._replay is None or not self._fill_inputs(batch, step):
            return self._step(batch, step, lr_factors)
        with span("graph"):
            self._launch(self._replay, lr_factors)
        self._step.guard.read_later(step, batch.positions)
        return self._loss.clone(), self._num_correct.clone()

    def _fill_inputs(self, batch: Batch, step: int) -> bool:
        """Copy a batch to where the graph reads; return whether its tensors have the same form."""
        tensors = [tensor for pair in self._step.micro_batches(batch, step) for tensor in pair]
        if not self._inputs:
            self._inputs = [torch.empty_like(tensor) for tensor in tensors]
        if [(t.shape, t.dtype) for t in self._inputs] != [(t.shape, t.dtype) for t in tensors]:
            return False
        for buffer, tensor in zip(self._inputs, tensors, strict=True):
            buffer.copy_(tensor)
        return True

    def _launch(self, replay: Callable[[], None], lr_factors: Sequence[float]) -> None:
        self._step.set_lr(lr_factors)
        for group, lr in zip(self._step.optimizer.param_groups, self._lrs, strict=True):
            lr.fill_(group["lr"])
        replay()

    def _train(self, micro_batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Train on a batch eagerly, on the device alone."""
        step = self._step
        step.zero_grad()  # so a graph has its own gradients, which each replay writes anew
        # The positions matter for sample weights by columns only, which no graph holds.
        loss, num_correct = step.forward_backward(micro_batches, np.arange(self._size))
        step.guard.set_flag(loss)
        step.update()
        self._loss.copy_(loss)
        self._num_correct.copy_(num_correct)

    def _train_on_inputs(self) -> None:
        """Train on the inputs; a graph of this is captured."""
        self._train(zip(self._inputs[::2], self._inputs[1::2], strict=True))

    def _try_graph(self, batch: Batch, step: int, lr_factors: Sequence[float]) -> None:
        """Capture a graph and keep it if it gives equal steps; afterwards the state is restored."""
        snapshot = _Snapshot(self._module, self._step)
        batch = batch._replace(pixels=batch.pixels.clone())  # a network may change its input
        try:
            self._fill_inputs(batch, step)
            with self._lrs_on_device():
                self._replay = self._graphs.capture(self._train_on_inputs)
            is_equal = self._is_equal(self._replay, snapshot, batch, step, lr_factors)
            reason = "" if is_equal else "its steps differ from eager ones"
        except Exception as error:  # from any component of a step
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            self._graphs.recover()
        snapshot.restore()
        self._step.zero_grad()
        if reason:
            self._replay, self._inputs = None, []
            _log.info("graph: no CUDA graph is replayed: %s", reason)
        else:
            _log.info("graph: full batches replay a CUDA graph")

    @contextmanager
    def _lrs_on_device(self) -> Iterator[None]:
        """Let the optimizer read learning rates from the device: a replay finds new ones there."""
        groups = self._step.optimizer.param_groups
        before = [dict(group) for group in groups]
        for group, lr in zip(groups, self._lrs, strict=True):
            group["lr"] = lr
            if "capturable" in group:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)

    def _is_equal(
        self,
        replay: Callable[[], None],
        snapshot: _Snapshot,
        batch: Batch,
        step: int,
        lr_factors: Sequence[float],
    ) -> bool:
        """Return whether some eager and replayed steps have equal losses and lead to equal states.

        Each step has its own draws and its own learning rate.
        """
        losses: dict[bool, list[float]] = {False: [], True: []}
        states = []
        for is_replayed, step_losses in losses.items():
            snapshot.restore()
            for number, scale in enumerate(_LR_FACTORS, start=step):
                factors = [factor * scale for factor in lr_factors]
                if is_replayed:
                    self._fill_inputs(batch, number)
                    self._launch(replay, factors)
                else:
                    self._step.set_lr(factors)
                    self._train(self._step.micro_batches(batch, number))
                step_losses.append(float(self._loss))
            states.append(snapshot.state())
        close = self._loss_tolerance
        return all(
            math.isclose(one, other, rel_tol=close, abs_tol=close)
            for one, other in zip(*losses.values(), strict=True)
        ) and all(
            _distance(one, other) <= self._state_tolerance * _distance(one, start)
            for one, other, start in zip(*states, snapshot.saved, strict=True)
        )


class Graphs(Protocol):
    """A device that captures graphs."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function several times; return a function that replays its work on the device."""

    def recover(self) -> None:
        """Make the device usable again after a failed capture."""


class CudaGraphs:
    """A CUDA device that captures graphs.

    Follows https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs". A replay draws from
    the seed that is set before it, because a graph reads it from the device's generator.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self._device = torch.device("cuda", index)
        self._generator = torch.cuda.default_generators[index]

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return the replay of a function's kernels. Raises RuntimeError if that is impossible."""
        with torch.cuda.device(self._device):
            current, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(current)
            with torch.cuda.stream(stream), _no_synchronization():
                for _ in range(_WARM_UP):
                    function()
            current.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # The thread that prefetches may synchronise; only this one must not.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                function()
        return graph.replay

    def recover(self) -> None:
        """Give the generator a new state: after a failed capture it refuses to draw."""
        torch.cuda.synchronize(self._device)
        fresh = torch.Generator(self._device)
        self._generator.graphsafe_set_state(fresh.graphsafe_get_state())


@contextmanager
def _no_synchronization() -> Iterator[None]:
    """Raise RuntimeError if the host waits for the device, before that can break a capture."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):  # an optimizer is capturable, but not captured
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


class _Snapshot:
    """A copy of all that a step changes: parameters, buffers, optimizer state, the guard's flag.

    `saved` and `state()` are in groups that are compared as one: the parameters, then each buffer.
    """

    def __init__(self, module: nn.Module, step: TrainStep) -> None:
        buffers = [[buffer] for buffer in module.buffers()]
        self._groups: list[list[Tensor]] = [list(step.parameters), *buffers]
        state = [value for values in step.optimizer.state.values() for value in values.values()]
        tensors = [value for value in state if isinstance(value, torch.Tensor)]
        self._rest = [*tensors, step.guard.flag, step.guard.num_finite]
        self._saved_rest = [value.clone() for value in self._rest]
        self.saved = self.state()

    def state(self) -> list[list[Tensor]]:
        """Return copies of the parameters and of each buffer."""
        return [[value.detach().clone() for value in group] for group in self._groups]

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back in place: a graph knows addresses."""
        tensors = [*(tensor for group in self._groups for tensor in group), *self._rest]
        copies = [*(copy for group in self.saved for copy in group), *self._saved_rest]
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    pairs = zip(one, other, strict=True)
    return math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in pairs))
