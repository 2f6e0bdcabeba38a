"""What an experiment plans for each epoch and step: orders, learning rates, shares of averages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from sightx.records.history import History
from sightx.records.pixels import Positions
from sightx.records.table import ImageTable
from sightx.registry import data_results, results
from sightx.registry.components import call_declared, declares
from sightx.registry.kinds import Loss
from sightx.seeds import generator
from sightx.spec.experiment import Experiment
from sightx.training.param_groups import spec_groups

_MAX_SAMPLES_COMPARED = 256  # of which sample weights are computed, spread over the split


class Schedule:
    """The plan of a run: pure functions of the epoch, the step, and the history of past epochs.

    Steps and epochs count from 0. `groups` has the name of each of the optimizer's parameter
    groups.
    """

    def __init__(
        self,
        experiment: Experiment,
        table: ImageTable,
        rows: Positions,
        groups: Sequence[str] = (),
        epochs: int | None = None,
    ) -> None:
        """Plan for `epochs`, by default those of the experiment; `rows` are the training samples.

        Without `groups`, they are those that the spec names. Raises PluginError if the sampler
        gives no samples, or another order when it is asked again.
        """
        self._experiment, self._table, self._rows = experiment, table, rows
        self.groups = tuple(groups or spec_groups(experiment.optimizer))
        self.epochs = epochs or experiment.training.epochs
        self._epoch_size: int | None = None
        first = self.order(0)
        self._epoch_size = len(first)
        if not np.array_equal(first, self.order(0)):
            hint = 'draw from sightx.plugin.generator(seed, "order", epoch)'
            message = "returned another order for the same epoch and seed"
            raise results.wrong_result(experiment.sampler.order, message, hint)
        self.steps_per_epoch = math.ceil(self._epoch_size / experiment.training.batch_size)
        self.steps = self.epochs * self.steps_per_epoch

    def order(self, epoch: int) -> Positions:
        """Return the order of an epoch, as rows of the table.

        Raises PluginError if it has another number of samples than the first epoch.
        """
        sampler, seed = self._experiment.sampler, self._experiment.seed
        order = data_results.sampler_order(
            sampler, self._table, self._rows, epoch=epoch, epochs=self.epochs, seed=seed
        )
        if not len(order) or self._epoch_size not in (None, len(order)):
            expected = f"{self._epoch_size}, as in epoch 1" if epoch else "at least 1"
            message = f"returned {len(order)} samples in epoch {epoch + 1}, not {expected}"
            hint = "return the same number of samples in every epoch"
            raise results.wrong_result(sampler.order, message, hint)
        return np.asarray(self._rows[order])

    def lr_factors(self, step: int, history: History) -> tuple[float, ...]:
        """Return what the learning rate of each parameter group is multiplied by.

        Groups with one name, which are parts of one group, have one factor.
        """
        scheduler, run = self._experiment.scheduler, self._run(history)
        if not declares(scheduler.factor, "group"):
            return (results.lr_multiplier(scheduler, step, **run),) * len(self.groups)
        names = tuple(dict.fromkeys(self.groups))
        factors = {
            name: results.lr_multiplier(scheduler, step, group=name, groups=names, **run)
            for name in names
        }
        return tuple(factors[name] for name in self.groups)

    def average_share(self, step: int, history: History) -> float:
        """Return the share of the new weights in their average; 0 without an average."""
        average = self._experiment.average
        return results.average_share(average, step, **self._run(history)) if average else 0.0

    def step_values(self, step: int, history: History) -> Iterator[tuple[str, Any]]:
        """Yield what a step uses that may depend on the number of epochs, each with its name."""
        experiment, progress = self._experiment, step / self.steps
        yield f"the learning rates of {experiment.scheduler.name}", self.lr_factors(step, history)
        if experiment.average:
            yield f"the average of {experiment.average.name}", self.average_share(step, history)
        for augment in experiment.augment:
            if declares(augment.draw, "progress"):
                rng = generator(experiment.seed, "augment", step)
                drawn = call_declared(augment.draw, n=2, rng=rng, progress=progress)
                values = {key: np.asarray(value).tolist() for key, value in drawn.items()}
                yield f"the draws of {augment.name}", values
        if weights_declare(experiment.loss, "progress"):
            yield f"the sample weights of {experiment.loss.name}", self._sample_weights(progress)

    def epoch_values(self, epoch: int) -> Iterator[tuple[str, Any]]:
        """Yield what an epoch uses that may depend on the number of epochs, each with its name."""
        sampler = self._experiment.sampler
        if declares(sampler.order, "epochs"):
            yield f"the order of {sampler.name}", self.order(epoch).tolist()

    def _sample_weights(self, progress: float) -> list[float] | None:
        """Return the weights of some training samples."""
        rows = self._rows[:: max(1, len(self._rows) // _MAX_SAMPLES_COMPARED)]
        weights = call_declared(
            self._experiment.loss.weights,
            torch.from_numpy(self._table.labels[rows]),
            class_counts=self._table.counts(self._rows),
            columns=self._table.extra_columns(rows),
            progress=progress,
        )
        return None if weights is None else list(weights.tolist())

    def _run(self, history: History) -> dict[str, Any]:
        run = {"steps": self.steps, "steps_per_epoch": self.steps_per_epoch}
        return {**run, "history": history}


def weights_declare(loss: Loss, argument: str) -> bool:
    """Return whether the sample weights of a loss may depend on `columns` or `progress`."""
    return type(loss).weights is not Loss.weights and declares(loss.weights, argument)
