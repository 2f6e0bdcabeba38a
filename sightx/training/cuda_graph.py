"""The fastest way to make a step: compiled, replayed as a CUDA graph, or neither with a word why.

A graph launches all kernels of a step at once: forward, loss, backward, clipping, optimizer. What
the host draws or decides stays outside: random changes of images, seeds, learning rates.

Which way is faster is timed anew in each session. So with `execution.deterministic` a graph must
give the very bits of eager steps: then a run repeats, whichever way each of its steps went.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from sightx.data.loader.loader import Batch
from sightx.spec.experiment import Experiment, Training
from sightx.training.capture import Capture, OnCuda
from sightx.training.compile import CompiledNetwork
from sightx.training.profiling import span
from sightx.training.step import TrainStep

if TYPE_CHECKING:
    from torch import Tensor

    MakeStep = Callable[[Batch, int, float], tuple[Tensor, Tensor]]

_log = logging.getLogger("sightx")
_EAGER = 3  # full steps before the try: then an optimizer has all of its state
_RATES = (1.0, 0.5, 0.25)  # shares of the learning rate in the steps that are compared
_CLOSE = {"fp32": 1e-3, "bf16": 2e-2}  # how far two losses may be apart
_APART = 0.05  # how far two ends may be apart, as a share of the way that led there
_ROUNDS, _TIMED, _SECONDS = 3, 10, 0.5  # timings; the most steps and seconds of each


def choose_step(experiment: Experiment, rule: TrainStep, module: nn.Module) -> MakeStep:
    """Return what makes a rule's steps fastest; its network is `module`, or the end of that."""
    settings = experiment.training
    if experiment.execution.compile and isinstance(rule.network, nn.Module):
        rule.network = CompiledNetwork(rule.network, _micro(settings))
    if rule.batches.device.type != "cuda":
        return rule
    if reason := why_not_graphable(experiment, rule):
        _refuse(reason)
        return rule
    return GraphedStep(rule, module, experiment, OnCuda(rule.batches.device))


def why_not_graphable(experiment: Experiment, rule: TrainStep) -> str:
    """Return why no graph may hold a step; empty where one may be tried."""
    parts = (experiment.model, experiment.loss, experiment.optimizer)
    silent = [f"the {part.kind} {part.name}" for part in parts if not part.capturable]
    if silent:
        return f"{' and '.join(silent)} did not declare that one may hold it"
    if not rule.gate.deferred:
        return "nothing on the device can stop the optimizer"
    if rule.draws and _micro(experiment.training) < experiment.training.batch_size:
        return "the network may draw, and each micro-batch from a seed of its own"
    return ""


class GraphedStep:
    """Make steps by a rule; full batches by a graph of it, once that has proved right and faster.

    Any other batch, and all batches where it has not, go through the rule itself.
    """

    def __init__(
        self, rule: TrainStep, module: nn.Module, experiment: Experiment, capture: Capture
    ) -> None:
        self._rule, self._module, self._capture = rule, module, capture
        settings, exact = experiment.training, experiment.execution.deterministic
        self._size = settings.batch_size
        self._close, self._apart = (0.0, 0.0) if exact else (_CLOSE[settings.precision], _APART)
        self._seen = 0  # full batches
        self._replay: Callable[[], None] | None = None
        self._inputs: list[Tensor] = []  # what the graph reads
        self._loss, self._right = (torch.zeros((), device=rule.batches.device) for _ in range(2))
        self._rates = [torch.zeros_like(self._loss) for _ in rule.optimizer.param_groups]

    def __call__(self, batch: Batch, step: int, multiplier: float) -> tuple[Tensor, Tensor]:
        """Move the weights once; return the batch's loss and how many answers were right.

        Raises NonFiniteError as the rule does.
        """
        if len(batch.positions) != self._size:
            return self._rule(batch, step, multiplier)
        if self._seen == _EAGER:
            self._try(batch, step, multiplier)
        self._seen += 1
        if self._replay is None or not self._filled(batch, step):
            return self._rule(batch, step, multiplier)
        with span("graph"):
            self._launch(multiplier)
        self._rule.gate.watch(step, batch.positions)
        return self._loss.clone(), self._right.clone()

    def _filled(self, batch: Batch, step: int) -> bool:
        """Copy a batch to where the graph reads; say whether it has the form of the first one."""
        parts = [tensor for part in self._rule.parts(batch, step) for tensor in part]
        if not self._inputs:
            self._inputs = [torch.empty_like(tensor) for tensor in parts]
        if list(map(_form, self._inputs)) != list(map(_form, parts)):
            return False
        for here, new in zip(self._inputs, parts, strict=True):
            here.copy_(new)
        return True

    def _body(self) -> None:
        """Make the step that is captured; only its kernels will be replayed."""
        rule = self._rule
        rule.clear()  # so the graph has gradients of its own, which each replay writes anew
        parts = zip(self._inputs[::2], self._inputs[1::2], strict=True)
        loss, right = rule.accumulate(parts, self._size)
        rule.gate.mark(loss)
        rule.move()
        self._loss.copy_(loss)
        self._right.copy_(right)

    def _launch(self, multiplier: float) -> None:
        """Replay the step on what was filled in."""
        self._rule.rate(multiplier)
        for group, rate in zip(self._rule.optimizer.param_groups, self._rates, strict=True):
            rate.fill_(group["lr"])
        if self._replay:
            self._replay()

    def _try(self, batch: Batch, step: int, multiplier: float) -> None:
        """Capture a step, compare it and time it; afterwards all is as if nothing had been."""
        kept = _Kept(self._module, self._rule)
        batch = batch._replace(pixels=batch.pixels.clone())  # a network may change what it is given
        try:
            reason = self._tried(kept, batch, step, multiplier or 1.0)
        except Exception as error:  # of whatever takes part in a step
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            self._capture.recover()
        kept.restore()
        self._rule.clear()
        if reason:
            self._replay, self._inputs = None, []
            _refuse(reason)

    def _tried(self, kept: _Kept, batch: Batch, step: int, multiplier: float) -> str:
        """Return why the graph is of no use; empty where it is."""
        self._filled(batch, step)
        with self._rates_on_device():
            self._replay = self._capture.capture(self._body)
        if not self._agrees(kept, batch, step, multiplier):
            return "its steps differ from eager ones"
        eager, replayed = self._times(batch, step)
        times = f"{replayed * 1e6:,.0f} us a step, eagerly {eager * 1e6:,.0f} us"
        if replayed >= eager:
            return f"that is not faster, {times}"
        _log.info("graph: full batches replay a CUDA graph, %s", times)
        return ""

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read its rates from the device, where a replay can find others."""
        groups = self._rule.optimizer.param_groups
        before = [dict(group) for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)

    def _by_rule(self, batch: Batch, step: int, multiplier: float) -> Tensor:
        """Make an eager step that tells nobody."""
        rule = self._rule
        rule.clear()
        loss, _ = rule.accumulate(rule.parts(batch, step), self._size)
        rule.gate.mark(loss)
        rule.rate(multiplier)
        rule.move()
        return loss

    def _by_graph(self, batch: Batch, step: int, multiplier: float) -> Tensor:
        """Make a replayed step that tells nobody."""
        self._filled(batch, step)
        self._launch(multiplier)
        return self._loss.clone()

    def _agrees(self, kept: _Kept, batch: Batch, step: int, multiplier: float) -> bool:
        """Say whether steps of both kinds, with other draws and rates each, lead to the same."""
        ends = []
        for make in (self._by_rule, self._by_graph):
            kept.restore()
            seen = [make(batch, step + n, multiplier * rate) for n, rate in enumerate(_RATES)]
            ends.append(([float(loss) for loss in seen], *kept.now()))
        (losses, weights, buffers), (others, other_weights, other_buffers) = ends
        return (
            all(
                math.isclose(one, other, rel_tol=self._close, abs_tol=self._close)
                for one, other in zip(losses, others, strict=True)
            )
            and _near(weights, other_weights, kept.weights, self._apart)
            and all(
                _near([one], [other], [start], self._apart)
                for one, other, start in zip(buffers, other_buffers, kept.buffers, strict=True)
            )
        )

    def _times(self, batch: Batch, step: int) -> tuple[float, float]:
        """Return the seconds of an eager step and of a replayed one; the weights stay."""

        def timed(make: Callable[[Batch, int, float], Tensor], steps: int) -> float:
            self._capture.settle()
            started = time.perf_counter()
            for _ in range(steps):
                make(batch, step, 0.0)
            self._capture.settle()
            return (time.perf_counter() - started) / steps

        steps = min(_TIMED, max(1, int(_SECONDS / timed(self._by_rule, 1))))
        rounds = [
            (timed(self._by_rule, steps), timed(self._by_graph, steps)) for _ in range(_ROUNDS)
        ]
        eager, replayed = map(min, zip(*rounds, strict=True))
        return eager, replayed


class _Kept:
    """Keep what a step changes: `weights`, `buffers`, what the optimizer holds, the gate's flag."""

    def __init__(self, module: nn.Module, rule: TrainStep) -> None:
        self._live = rule.weights, list(module.buffers())
        state = [value for values in rule.optimizer.state.values() for value in values.values()]
        tensors = [value for value in state if isinstance(value, torch.Tensor)]
        self._rest = [*tensors, rule.gate.flag]
        self.weights, self.buffers = self.now()
        self._copies = [value.clone() for value in self._rest]

    def now(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return copies of the weights and the buffers."""
        weights, buffers = ([value.detach().clone() for value in live] for live in self._live)
        return weights, buffers

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back, in place: a graph knows addresses."""
        here = [*self._live[0], *self._live[1], *self._rest]
        for tensor, copy in zip(here, (*self.weights, *self.buffers, *self._copies), strict=True):
            tensor.copy_(copy)


def _near(
    one: Sequence[Tensor], other: Sequence[Tensor], start: Sequence[Tensor], apart: float
) -> bool:
    """Say whether two ends lie together, measured by the way to one of them."""
    return _distance(one, other) <= apart * _distance(one, start)


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    pairs = zip(one, other, strict=True)
    return math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in pairs))


def _form(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _micro(settings: Training) -> int:
    return min(settings.micro_batch_size or settings.batch_size, settings.batch_size)


def _refuse(reason: str) -> None:
    _log.info("graph: no CUDA graph is replayed: %s", reason)
