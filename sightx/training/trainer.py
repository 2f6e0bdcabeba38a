"""The loop, as a generator: it knows no files, no plugins, no terminal and no signals."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from sightx.data.batches import Batches, Positions
from sightx.data.samples import Samples
from sightx.errors import NonFiniteError, Problem
from sightx.evaluation import figures
from sightx.evaluation.predictions import Predictions
from sightx.registry.components import call
from sightx.spec.experiment import Experiment
from sightx.training import build
from sightx.training.evaluate import Scores
from sightx.training.events import Epoch, Step, ValidationBatch
from sightx.training.history import History
from sightx.training.objective import Objective
from sightx.training.state import State, from_json, pack, to_json, unpack
from sightx.training.step import StepRule

if TYPE_CHECKING:
    from torch import Tensor

Event = Step | ValidationBatch | Epoch


class Totals(NamedTuple):
    """Sum up the steps of an epoch: loss times samples, right answers, samples."""

    losses: Tensor | float = 0.0
    rights: Tensor | float = 0.0
    samples: int = 0


class Trainer:
    """Train a network on samples as an experiment says.

    `history` grows by one mapping an epoch; `validation` holds the last epoch's predictions.
    """

    def __init__(
        self, experiment: Experiment, samples: Samples, module: nn.Module, device: torch.device
    ) -> None:
        self.experiment, self.samples, self.device = experiment, samples, device
        self.module = module.to(device)
        build.freeze(module, experiment.model.trainable)
        rows = samples.rows.take(samples.sides["train"])
        self.statistics = call(
            experiment.normalize.statistics, model=experiment.model, training_rows=rows
        )
        self.objective = Objective(experiment.loss, samples.counts("train"), device)
        groups = build.groups(module, experiment.optimizer)
        self._optimizer = experiment.optimizer.build(groups)
        self._batches = Batches(
            samples.rows, samples.table.labels, self.statistics, device,
            experiment.augment, experiment.seed,
        )  # fmt: skip
        self._step_rule = StepRule(
            module, self._optimizer, self.objective, self._batches, experiment.training,
            samples.table.frame["path"].tolist(),
        )  # fmt: skip
        self.history = History(
            experiment.training.monitor,
            figures.directions(experiment.metric, samples.table.classes),
        )
        self.decisions: figures.States = []
        self.validation: Predictions | None = None
        # Sums over an epoch want more digits than a step; mps has no more.
        self._exact = torch.float32 if device.type == "mps" else torch.float64
        self._step = 0  # steps done in the whole run
        self._totals = Totals()  # of the running epoch
        self._per_epoch = math.ceil(len(self._order(0)) / experiment.training.batch_size)

    def epochs(self, count: int | None = None) -> Iterator[Epoch]:
        """Yield the ends of epochs only."""
        return islice((event for event in self.events() if isinstance(event, Epoch)), count)

    def events(self) -> Iterator[Event]:
        """Train until the last epoch or until the stopping policy has a reason."""
        settings = self.experiment.training
        while len(self.history.epochs) < settings.epochs:
            started = time.perf_counter()
            # 1. Every training sample once, in an order that only seed and epoch decide.
            yield from self._train()
            self._refuse_nonfinite()
            # 2. The validation side; decisions are fitted on it.
            loss = yield from self._validate()
            # 3. The epoch becomes history, and policies are asked about it.
            epoch = self._finish(loss, time.perf_counter() - started)
            yield epoch
            if epoch.stop:
                return

    def _train(self) -> Iterator[Step]:
        epoch = len(self.history.epochs)
        order, size, of = self._order(epoch), self.experiment.training.batch_size, self._per_epoch
        build.train_mode(self.module)
        for start in range((self._step - epoch * of) * size, len(order), size):
            batch = order[start : start + size]
            rate = self._multiplier(self._step)
            loss, right = self._step_rule(batch, self._step, rate)
            self._step += 1
            self._totals = Totals(
                self._totals.losses + loss.to(self._exact) * len(batch),
                self._totals.rights + right,
                self._totals.samples + len(batch),
            )
            yield Step(epoch + 1, self._step, of, len(batch), loss, self._rate())

    def _refuse_nonfinite(self) -> None:
        """Raise NonFiniteError where the last step has moved weights or statistics to nowhere."""
        tensors = self.module.state_dict().items()
        wrong = [name for name, value in tensors if not bool(torch.isfinite(value).all())]
        if wrong:
            raise _nonfinite(f"weights after step {self._step}: {', '.join(wrong[:3])}")

    def _validate(self) -> Generator[ValidationBatch, None, float]:
        positions = self.samples.sides["validation"]
        if not len(positions):
            return float("nan")
        scores = self._scores("validation")
        for done in scores:
            yield ValidationBatch(len(self.history.epochs) + 1, done, len(positions))
        if not math.isfinite(loss := scores.loss):
            raise _nonfinite(f"validation loss after step {self._step}")
        raw = scores.predictions(self.samples.table)
        self.decisions, self.validation = figures.fit(self.experiment.decide, raw)
        return loss

    def _finish(self, loss: float, seconds: float) -> Epoch:
        losses, rights, seen = self._totals
        metrics = {"train/loss": float(losses) / seen, "train/accuracy": float(rights) / seen}
        if self.validation is not None:
            metrics["validation/loss"] = loss
            metrics |= figures.figures(self.validation, self.experiment.metric, "validation")
        self.history = self.history.add(metrics)
        self._totals = Totals()
        number = len(self.history.epochs)
        return Epoch(
            number=number,
            of=self.experiment.training.epochs,
            step=self._step,
            metrics=metrics,
            seconds=seconds,
            rate=self._rate(),
            monitor=self.history.monitor,
            best=self.history.series().best == number - 1,
            stop=self.experiment.stopping.reason(self.history),
        )

    def predict(self, side: str) -> tuple[Predictions, float]:
        """Return a side's predictions, decided as on validation, and its loss."""
        scores = self._scores(side)
        for _ in scores:
            pass
        raw = scores.predictions(self.samples.table)
        return figures.apply(self.experiment.decide, self.decisions, raw), scores.loss

    def state(self) -> State:
        """Return everything that is needed to go on from here; valid at every event."""
        tensors, optimizer = pack(self._optimizer)
        losses, rights, seen = self._totals
        record = {
            "stage": 0,
            "step": self._step,
            "totals": [float(losses), float(rights), seen],
            "history": [to_json(epoch) for epoch in self.history.epochs],
            "decisions": self.decisions,
            "optimizer": optimizer,
        }
        return State(self.module.state_dict(), tensors, record)

    def restore(self, saved: State) -> None:
        """Go on from a state; the next event is the one that would have followed it."""
        self.use(saved)
        unpack(self._optimizer, saved.optimizer, saved.record["optimizer"])
        self._step, self._totals = saved.record["step"], Totals(*saved.record["totals"])
        for epoch in saved.record["history"]:
            self.history = self.history.add(from_json(epoch))

    def use(self, saved: State) -> None:
        """Take the weights and decisions of a state, to predict with them; history stays."""
        self.module.load_state_dict(saved.weights)
        self.decisions = list(saved.record["decisions"])

    def _scores(self, side: str) -> Scores:
        return Scores(
            self.module,
            self.objective,
            self._batches,
            self.samples.sides[side],
            self.experiment.training,
        )

    def _order(self, epoch: int) -> Positions:
        train = self.samples.sides["train"]
        labels = self.samples.table.labels[train]
        order = self.experiment.sampler.order(labels, epoch=epoch, seed=self.experiment.seed)
        return np.asarray(train[order])

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
    hint = "lower optimizer.lr, or set training.clip"
    return NonFiniteError(Problem("non-finite", f"non-finite {what}", hint))
