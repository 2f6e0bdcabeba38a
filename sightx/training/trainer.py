"""The loop, as a generator: it knows no files, no plugins, no terminal and no signals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import Batch, BatchLoader
from sightx.distributed.collectives import SingleProcess
from sightx.errors import NonFiniteError, PluginError, Problem
from sightx.evaluation import metrics as evaluation
from sightx.records.events import Epoch, Event, FeatureBlock, Step, ValidationBatch
from sightx.records.history import History
from sightx.records.pixels import Positions
from sightx.records.predictions import Predictions
from sightx.registry.components import call_declared
from sightx.spec.experiment import Experiment
from sightx.training import setup
from sightx.training.criterion import Criterion
from sightx.training.cuda_graph import choose_step
from sightx.training.evaluate import Evaluator
from sightx.training.feature_cache import FeatureCache
from sightx.training.meters import Throughput
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.shared import SharedStep
from sightx.training.state import State, from_json, pack_optimizer, to_json, unpack_optimizer
from sightx.training.step import TrainStep
from sightx.training.totals import Totals
from sightx.training.weights import load_strict

if TYPE_CHECKING:
    from torch import Tensor


class Trainer:
    """Train a network on samples as an experiment says.

    `history` grows by one mapping an epoch; `validation` holds the last epoch's predictions.
    """

    def __init__(
        self,
        experiment: Experiment,
        samples: PreparedDataset,
        module: nn.Module,
        device: torch.device,
        collectives: SingleProcess | None = None,
    ) -> None:
        self.experiment, self.dataset, self.device = experiment, samples, device
        self.collectives = collectives or SingleProcess()
        self.module = module.to(device)
        self.collectives.broadcast_(list(module.state_dict().values()))
        setup.to_channels_last(module, device, experiment.training.precision)
        setup.freeze(module, experiment.model.trainable)
        rows = samples.rows.take(samples.splits["train"])
        measure = experiment.normalize.statistics
        self.statistics = call_declared(measure, model=experiment.model, training_rows=rows)
        self.criterion = Criterion(experiment.loss, samples.counts("train"), device)
        optimizer = experiment.optimizer
        self._optimizer = optimizer.build(setup.param_groups(module, optimizer))
        self._batches = BatchLoader(
            samples.rows, samples.table.labels, self.statistics, device,
            experiment.augment, experiment.seed,
        )  # fmt: skip
        several = self.collectives.world_size > 1
        rule = partial(SharedStep, collectives=self.collectives) if several else TrainStep
        self._step_rule = rule(
            module, self._optimizer, self.criterion, self._batches, experiment.training,
            NonFiniteGuard(self._optimizer, device, self._blame),
        )  # fmt: skip
        self._make_step: Callable[[Batch, int, float], tuple[Tensor, Tensor]] = self._step_rule
        self._features = FeatureCache(experiment, module, samples, self._batches)
        directions = evaluation.metric_directions(experiment.metric, samples.table.classes)
        self.history = History(experiment.training.monitor, directions)
        self.postprocess_states: evaluation.PostprocessStates = []
        self.validation: Predictions | None = None
        self._step = self._drawn = 0  # steps done in the whole run, samples of an epoch
        self._totals, self._pace = Totals(), Throughput()  # of the running epoch
        self._drawn = len(self._order(0))
        self._per_epoch = math.ceil(self._drawn / experiment.training.batch_size)

    def epochs(self, count: int | None = None) -> Iterator[Epoch]:
        """Yield the ends of epochs only."""
        return islice((event for event in self.events() if isinstance(event, Epoch)), count)

    @property
    def stop_reason(self) -> str | None:
        """Return why the stopping policy ends training here, if it does."""
        return self.experiment.stopping.reason(self.history) if self.history.epochs else None

    def events(self) -> Iterator[Event]:
        """Train until the last epoch or until the stopping policy has a reason."""
        yield from self._get_ready()
        while len(self.history.epochs) < self.experiment.training.epochs and not self.stop_reason:
            started = time.perf_counter()
            # 1. Every training sample once, in an order that only seed and epoch decide.
            yield from self._train()
            self._refuse_nonfinite()
            self._pace.stop()
            # 2. The validation side; decisions are fitted on it.
            loss = yield from self._validate()
            # 3. The epoch becomes history, and policies are asked about it.
            yield self._finish(loss, time.perf_counter() - started)

    def _get_ready(self) -> Iterator[FeatureBlock]:
        """Compute what is computed once, and choose how steps are made, where one is to come."""
        epochs = self.experiment.training.epochs
        if self.collectives.world_size == 1 and len(self.history.epochs) < epochs:
            trains = self._step < epochs * self._per_epoch
            yield from self._features.compute(*["train"] * trains, "validation")
            self._step_rule.network, self._step_rule.batches = self._features.route("train")
            self._make_step = choose_step(self.experiment, self._step_rule, self.module)

    def _train(self) -> Iterator[Step]:
        epoch, of = len(self.history.epochs), self._per_epoch
        order, size = self._order(epoch), self.experiment.training.batch_size
        starts = range((self._step - epoch * of) * size, len(order), size)
        setup.train_mode(self.module)
        # A pure function of the step and of epochs before: asked in one go, which costs less.
        multipliers = [self._multiplier(s) for s in range(self._step, self._step + len(starts))]
        self._pace = Throughput()
        with closing(self._stream([order[s : s + size] for s in starts])) as batches:
            for batch, multiplier in zip(self._pace.over(batches), multipliers, strict=True):
                loss, right = self._make_step(batch, self._step, multiplier)
                samples = len(batch.positions)
                self._totals = self._totals.plus(loss, right, samples)
                self._step += 1
                yield Step(epoch + 1, self._step, of, samples, loss, self._rate())

    def _stream(self, batches: list[Positions]) -> Generator[Batch, None, None]:
        """Yield batches; of their pixels, those that this process computes with."""
        source = self._step_rule.batches
        if self.collectives.world_size == 1:
            yield from source.stream(batches, plain=not source.augments)
            return
        own = [
            self.collectives.local_positions(b, self.experiment.training.micro_batch_size)
            for b in batches
        ]
        with closing(source.stream(own, plain=not source.augments)) as delivered:
            for positions, batch in zip(batches, delivered, strict=True):
                yield batch._replace(positions=positions)

    def _refuse_nonfinite(self) -> None:
        """Raise NonFiniteError where a step has moved weights or statistics to nowhere."""
        self._step_rule.gate.settle()
        state = self.module.state_dict()
        finite = torch.stack([torch.isfinite(value).all() for value in state.values()]).tolist()
        wrong = [name for name, fine in zip(state, finite, strict=True) if not fine]
        if wrong:
            raise _nonfinite(f"weights after step {self._step}: {', '.join(wrong[:3])}")

    def _validate(self) -> Generator[ValidationBatch, None, float]:
        positions = self.dataset.splits["validation"]
        if not len(positions):
            return float("nan")
        scores = self.evaluator("validation")
        for done in scores:
            yield ValidationBatch(len(self.history.epochs) + 1, done, len(positions))
        if not self.collectives.is_main_process:  # the figures are the first rank's
            return float("nan")
        if not math.isfinite(loss := scores.loss):
            raise _nonfinite(f"validation loss after step {self._step}")
        raw = scores.predictions(self.dataset.table)
        self.postprocess_states, self.validation = evaluation.fit_postprocess(
            self.experiment.postprocess, raw
        )
        return loss

    def _finish(self, loss: float, seconds: float) -> Epoch:
        losses, rights, seen = self._totals
        metrics = {"train/loss": float(losses) / seen, "train/accuracy": float(rights) / seen}
        if self.validation is not None:
            metrics["validation/loss"] = loss
            metrics |= evaluation.compute_metrics(
                self.validation, self.experiment.metric, "validation"
            )
        metrics = self.collectives.broadcast_object(metrics)  # so that all go the same way
        self.history = self.history.add(from_json(to_json(metrics)))  # as a resumed run has it
        self._totals = Totals()
        number = len(self.history.epochs)
        return Epoch(
            number=number,
            epochs=self.experiment.training.epochs,
            step=self._step,
            metrics=metrics,
            seconds=seconds,
            lr=self._rate(),
            monitor=self.history.monitor,
            is_best=self.history.series().best == number - 1,
            stop_reason=self.stop_reason,
            images_per_second=self._pace.images_per_second,
            data_wait_fraction=self._pace.data_wait_fraction,
        )

    def predict(
        self, side: str, heard: Callable[[], None] = lambda: None
    ) -> tuple[Predictions, float] | None:
        """Return a side's predictions, decided as on validation, and its loss; None on other ranks.

        `heard` is called after each batch, and may raise.
        """
        if (
            self.collectives.world_size == 1
        ):  # a run that goes on here has computed none of them yet
            for _ in self._features.compute(side):
                heard()
        scores = self.evaluator(side)
        for _ in scores:
            heard()
        if not self.collectives.is_main_process:
            return None
        raw = scores.predictions(self.dataset.table)
        return evaluation.apply_postprocess(
            self.experiment.postprocess, self.postprocess_states, raw
        ), scores.loss

    def state(self) -> State:
        """Return everything that is needed to go on from here; valid at every event.

        Raises NonFiniteError where a loss or a weight is not finite: no such state is ever saved.
        """
        self._refuse_nonfinite()
        tensors, optimizer = pack_optimizer(self._optimizer)
        losses, rights, seen = self._totals
        record = {
            "stage": 0,
            "step": self._step,
            "totals": [float(losses), float(rights), seen],
            "history": [to_json(epoch) for epoch in self.history.epochs],
            "postprocess": self.postprocess_states,
            "optimizer": optimizer,
        }
        return State(self.module.state_dict(), tensors, record)

    def restore(self, saved: State) -> None:
        """Go on from a state; the next event is the one that would have followed it."""
        self.load_weights(saved)
        unpack_optimizer(self._optimizer, saved.optimizer, saved.record["optimizer"])
        self._step, self._totals = saved.record["step"], Totals(*saved.record["totals"])
        for epoch in saved.record["history"]:
            self.history = self.history.add(from_json(epoch))

    def load_weights(self, saved: State) -> None:
        """Take the weights and decisions of a state, to predict with them; history stays."""
        load_strict(self.module, saved.weights, file="the checkpoint")
        self._features.verify()
        self.postprocess_states = list(saved.record["postprocess"])

    def evaluator(self, side: str) -> Evaluator:
        """Return what predicts a side's samples, batch by batch."""
        network, batches = self._features.route(side)
        return Evaluator(
            network, self.criterion, batches, self.dataset.splits[side],
            self.experiment.training, self.collectives,
        )  # fmt: skip

    def _order(self, epoch: int) -> Positions:
        train = self.dataset.splits["train"]
        labels = self.dataset.table.labels[train]
        sampler = self.experiment.sampler
        order = np.asarray(train[sampler.order(labels, epoch=epoch, seed=self.experiment.seed)])
        if not 0 < len(order) == (self._drawn or len(order)):
            wanted = f"not {self._drawn or 'some'}"
            message = f"{sampler.name} gives {len(order)} samples in epoch {epoch + 1}, {wanted}"
            hint = "order() must give as many in every epoch"
            raise PluginError(Problem("broken-plugin", message, hint, "sampler.use"))
        return order

    def _blame(self, step: int, positions: Positions) -> NonFiniteError:
        """Name the step and the rows of the table that a loss which is not finite is of."""
        first = self.dataset.table.frame["path"].iat[positions[0]]
        rows = ", ".join(str(row) for row in positions[:3])
        more = ", ..." if len(positions) > 3 else ""
        epoch = step // self._per_epoch + 1
        return _nonfinite(
            f"loss at epoch {epoch} step {step + 1} (rows {rows}{more}; first: {first})"
        )

    def _multiplier(self, step: int) -> float:
        return self.experiment.scheduler.multiplier(
            step,
            steps=self.experiment.training.epochs * self._per_epoch,
            steps_per_epoch=self._per_epoch,
            history=self.history,
        )

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[-1]["lr"])


def _nonfinite(what: str) -> NonFiniteError:
    hint = "lower optimizer.lr, or set training.clip_grad_norm"
    return NonFiniteError(Problem("non-finite", f"non-finite {what}", hint))
