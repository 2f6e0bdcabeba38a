"""The training loop, as a generator of events: it knows no files, terminal or signals."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice

import torch
from torch import nn

from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import Batch, BatchLoader
from sightx.distributed.collectives import Collectives
from sightx.errors import NonFiniteError, Problem
from sightx.evaluation import metrics
from sightx.evaluation.binary import BinaryDecision, fit_binary_decision
from sightx.records.events import Epoch, Event, FeatureBlock, Step, ValidationBatch
from sightx.records.history import History
from sightx.records.pixels import Positions
from sightx.records.predictions import Predictions
from sightx.registry import results
from sightx.registry.components import to_plain
from sightx.spec.experiment import Experiment, Tta
from sightx.training import setup
from sightx.training.average import WeightAverage
from sightx.training.compile import CompiledNetwork
from sightx.training.cuda_graph import with_cuda_graph
from sightx.training.evaluator import Evaluator
from sightx.training.feature_cache import FeatureCache
from sightx.training.meters import EpochSums, EpochTimer, Throughput
from sightx.training.nonfinite import NonFiniteGuard
from sightx.training.param_groups import build_optimizer
from sightx.training.schedule import Schedule
from sightx.training.state import State, from_json, pack_optimizer, to_json, unpack_optimizer
from sightx.training.step import Criterion, StepFunction, TrainStep
from sightx.training.tta import with_tta
from sightx.training.weights import load_strict


class Trainer:
    """Train a network on a dataset as an experiment says.

    `history` grows by one mapping of metrics per epoch; `validation` has the predictions of the
    last epoch on rank 0.
    """

    validation: Predictions | None = None
    binary: BinaryDecision | None = None  # as fitted on the validation split
    _throughput: Throughput  # of the running epoch
    _step = 0  # steps done in the whole run
    _grad_norm: torch.Tensor | None = None  # of the last step, if it is watched

    def __init__(
        self,
        experiment: Experiment,
        dataset: PreparedDataset,
        module: nn.Module,
        device: torch.device,
        collectives: Collectives | None = None,
    ) -> None:
        """Move the network to the device, broadcast rank 0's weights, and freeze parts."""
        self.experiment, self.dataset, self.device = experiment, dataset, device
        self.collectives = collectives or Collectives()
        self.module = module.to(device)
        counts = dataset.counts("train")
        self.criterion = Criterion(experiment.loss, counts, device, experiment.seed, dataset.table)
        for part in (module, self.criterion.module):
            self.collectives.broadcast_(list(part.state_dict().values()))
        setup.to_channels_last(module, experiment.model, device, experiment.training.precision)
        setup.freeze(module, experiment.model.trainable)
        self.statistics = results.normalization(
            experiment.normalize,
            model=experiment.model,
            training_rows=dataset.rows.take(dataset.splits["train"]),
            channels=dataset.rows.shape[0],
        )
        learned = self.criterion.parameters
        self._optimizer = build_optimizer(module, experiment.optimizer, experiment.model, learned)
        groups, labels = self._optimizer.param_groups, dataset.table.labels
        self._base_lrs, names = zip(*[(g["lr"], g.get("name", "*")) for g in groups], strict=True)
        self.schedule = Schedule(experiment, dataset.table, dataset.splits["train"], names)
        self._loader = BatchLoader(
            dataset.rows, labels, self.statistics, device, experiment.augment, experiment.seed,
            len(dataset.table.classes), self.schedule.steps,
        )  # fmt: skip
        self._average = WeightAverage(module) if experiment.average else None
        self._guard = NonFiniteGuard(self._optimizer, device, self._loss_error)
        self._features = FeatureCache(experiment, module, dataset, self._loader)
        directions = metrics.metric_directions(experiment.metric, dataset.table.classes)
        self.history = History(experiment.training.monitor, directions)
        self.postprocess_states: metrics.PostprocessStates = []
        self._sums, self._timer = EpochSums(), EpochTimer()  # of the running epoch

    def epochs(self, count: int | None = None) -> Iterator[Epoch]:
        """Train for `count` more epochs, or until the end; yield one event per epoch."""
        return islice((event for event in self.events() if isinstance(event, Epoch)), count)

    @property
    def _tta(self) -> Tta:
        return self.experiment.evaluation.tta

    @property
    def stop_reason(self) -> str | None:
        """Return why the stopping policy ends training now, or None if it does not."""
        if not self.history.epochs:
            return None
        return results.stop_reason(self.experiment.stopping, self.history)

    def events(self) -> Iterator[Event]:
        """Train until the last epoch, or until the stopping policy has a reason."""
        if len(self.history.epochs) < self.experiment.training.epochs:
            yield from self._compute_features()
            train_step = self._make_step()
        while len(self.history.epochs) < self.experiment.training.epochs and not self.stop_reason:
            self._timer.start()
            # 1. All training samples once, in an order that only the seed and the epoch decide.
            yield from self._train_epoch(train_step)
            self._check_finite()
            self._throughput.stop()
            # 2. The validation split; postprocessing is fitted on it.
            loss = yield from self._validate()
            # 3. The metrics enter the history, and the policies decide.
            yield self._finish_epoch(loss)

    def _compute_features(self) -> Iterator[FeatureBlock]:
        """Cache the features of the splits that are still needed, if that pays."""
        if self.collectives.world_size == 1:
            is_trained, uses_views = self._step >= self.schedule.steps, self._tta != "none"
            splits = {"train": not is_trained, "validation": not uses_views}
            yield from self._features.compute(*(name for name, used in splits.items() if used))

    def _make_step(self) -> StepFunction:
        """Return the function that trains on one batch."""
        settings, execution = self.experiment.training, self.experiment.execution
        module, loader = self._features.route("train")
        network: Callable[[torch.Tensor], torch.Tensor] = self.collectives.wrap_ddp(module)
        is_single = self.collectives.world_size == 1
        if execution.compile and is_single:
            size = min(settings.micro_batch_size or settings.batch_size, settings.batch_size)
            network = CompiledNetwork(module, size)
        step = TrainStep(
            network, self._optimizer, self._base_lrs, self.criterion, loader, settings,
            self._guard, self.collectives, self._grad_norm,
            self.experiment.optimizer.passes > 1, list(module.buffers()),
        )  # fmt: skip
        if execution.cuda_graph and is_single:
            return with_cuda_graph(step, self.module, self.experiment)
        return step

    def _train_epoch(self, train_step: StepFunction) -> Iterator[Step]:
        epoch, batch_size = len(self.history.epochs), self.experiment.training.batch_size
        order = self.schedule.order(epoch)
        steps_per_epoch = self.schedule.steps_per_epoch
        num_done = (self._step - epoch * steps_per_epoch) * batch_size  # in a resumed epoch
        module, loader = self._features.route("train")
        setup.train_mode(module)
        self.criterion.module.train()
        batches = [
            order[start : start + batch_size] for start in range(num_done, len(order), batch_size)
        ]
        # Learning rates and averages depend only on the step and the history of epochs, so they are
        # computed at once, and no step waits for Python code of a component.
        steps = range(self._step, self._step + len(batches))
        factors = [self.schedule.lr_factors(step, self.history) for step in steps]
        shares = [self.schedule.average_share(step, self.history) for step in steps]
        self._throughput = Throughput()
        with closing(self._stream(loader, batches)) as stream:
            batches_read = self._throughput.iterate(stream)
            for batch, factor, share in zip(batches_read, factors, shares, strict=True):
                loss, num_correct = train_step(batch, self._step, factor)
                if self._average and share:
                    self._average.update(share)
                samples = len(batch.positions)
                self._sums = self._sums.add(loss, num_correct, samples)
                self._step += 1
                yield Step(epoch + 1, self._step, steps_per_epoch, samples, loss, self._lr())

    def _stream(
        self, loader: BatchLoader, batches: list[Positions]
    ) -> Generator[Batch, None, None]:
        """Yield batches with the positions of all ranks and the pixels of this one."""
        micro_batch_size = self.experiment.training.micro_batch_size
        local = [self.collectives.local_positions(batch, micro_batch_size) for batch in batches]
        with closing(loader.iter_batches(local, normalize=not loader.augments)) as stream:
            for positions, batch in zip(batches, stream, strict=True):
                yield batch._replace(positions=positions)

    def _check_finite(self) -> None:
        """Raise NonFiniteError if a loss, a weight or a buffer is not finite."""
        self._guard.flush()
        state = self.module.state_dict() | self.criterion.module.state_dict(prefix="loss.")
        finite = torch.stack([torch.isfinite(value).all() for value in state.values()]).tolist()
        names = [name for name, is_finite in zip(state, finite, strict=True) if not is_finite]
        if names:
            raise _nonfinite_error(f"weights after step {self._step}: {', '.join(names[:3])}")

    def _validate(self) -> Generator[ValidationBatch, None, float]:
        """Predict the validation split; return its loss, NaN without samples."""
        positions = self.dataset.splits["validation"]
        if not len(positions):
            return math.nan
        if self._average:  # the evaluator broadcasts the buffers of the average only
            self.collectives.broadcast_(list(self.module.buffers()))
        evaluator = self.evaluator("validation")
        for done in evaluator:
            yield ValidationBatch(len(self.history.epochs) + 1, done, len(positions))
        if not self.collectives.is_main_process:  # which alone has all predictions
            return math.nan
        if not math.isfinite(loss := evaluator.loss):
            raise _nonfinite_error(f"validation loss after step {self._step}")
        predictions = evaluator.predictions(self.dataset.table)
        self.postprocess_states, self.validation = metrics.fit_postprocess(
            self.experiment.postprocess, predictions
        )
        self.binary = fit_binary_decision(self.experiment.evaluation, self.validation)
        return loss

    def _finish_epoch(self, loss: float) -> Epoch:
        sums = self._sums
        values = {
            "train/loss": float(sums.loss) / sums.num_samples,
            "train/accuracy": float(sums.num_correct) / sums.num_samples,
        }
        if self.validation is not None:
            values["validation/loss"] = loss
            values |= metrics.compute_metrics(self.validation, self.experiment.metric, "validation")
        # All ranks must decide alike.
        values, seconds = self.collectives.broadcast_object((values, round(self._timer.seconds, 3)))
        # Non-finite values become NaN, as they do when a resumed run reads a checkpoint.
        self.history = self.history.add(from_json(to_json(values)), seconds)
        self._sums, self._timer = EpochSums(), EpochTimer()
        number = len(self.history.epochs)
        return Epoch(
            number=number,
            epochs=self.experiment.training.epochs,
            step=self._step,
            metrics=values,
            seconds=seconds,
            lr=self._lr(),
            monitor=self.history.monitor,
            is_best=self.history.series().best == number - 1,
            stop_reason=self.stop_reason,
            images_per_second=self._throughput.images_per_second,
            data_wait_fraction=self._throughput.data_wait_fraction,
        )

    def predict(
        self, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> tuple[Predictions, float] | None:
        """Return the predictions of a split, postprocessed as fitted on validation, and its loss.

        Returns None on all ranks but 0. `on_batch` is called after each batch, and may raise.
        """
        if self.collectives.world_size == 1 and self._tta == "none":
            for _ in self._features.compute(split):  # a resumed run may have no features yet
                on_batch()
        return self._predict(self.evaluator(split), on_batch)

    def predict_without_tta(
        self, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> tuple[Predictions, float] | None:
        """Return what `predict` would return without test-time augmentation; None if there is none.

        The postprocessing is the same, as it was fitted with test-time augmentation.
        """
        if self._tta == "none":
            return None
        return self._predict(self.evaluator(split, tta=False), on_batch)

    def _predict(
        self, evaluator: Evaluator, on_batch: Callable[[], None]
    ) -> tuple[Predictions, float] | None:
        for _ in evaluator:
            on_batch()
        if not self.collectives.is_main_process:
            return None
        predictions = metrics.apply_postprocess(
            self.experiment.postprocess,
            self.postprocess_states,
            evaluator.predictions(self.dataset.table),
        )
        return predictions, evaluator.loss

    def evaluator(self, split: str, *, tta: bool = True) -> Evaluator:
        """Return an evaluator of the network on a split; of its average if there is one."""
        average = self._average.module if self._average else None
        module, loader = self._features.route(split, average)
        if tta and self._tta != "none":  # cached features are those of the images as they are
            module, loader = with_tta(average or self.module, self._tta), self._loader
        return Evaluator(
            module, self.criterion, loader, self.dataset.splits[split], self.experiment.training,
            self.collectives,
        )  # fmt: skip

    def state(self) -> State:
        """Return the state to resume from; valid after every event.

        Raises NonFiniteError if a loss or a weight is not finite: such a state is never saved.
        """
        self._check_finite()
        tensors, optimizer = pack_optimizer(self._optimizer)
        loss, num_correct, num_samples = self._sums
        record = {
            "step": self._step,
            "totals": [float(loss), float(num_correct), num_samples],
            "history": [to_json(epoch) for epoch in self.history.epochs],
            "seconds": [*self.history.seconds, self._timer.seconds],
            "postprocess": self.postprocess_states,
            "optimizer": optimizer,
            **({"binary": to_plain(self.binary)} if self.binary else {}),
        }
        weights, loss_state = self.module.state_dict(), self.criterion.module.state_dict()
        if self._average:
            averaged = self._average.module.state_dict()
            return State(averaged, tensors, record, loss_state, weights)
        return State(weights, tensors, record, loss_state)

    def restore(self, state: State) -> None:
        """Continue from a state: the next event is the one that would have followed it."""
        self.load_weights(state)
        if self._average:
            load_strict(self.module, state.training_weights, file="the checkpoint")
        unpack_optimizer(self._optimizer, state.optimizer, state.record["optimizer"])
        self._step, self._sums = state.record["step"], EpochSums(*state.record["totals"])
        *durations, earlier = state.record["seconds"]
        self._timer = EpochTimer(earlier)
        for epoch, seconds in zip(state.record["history"], durations, strict=True):
            self.history = self.history.add(from_json(epoch), seconds)

    def load_weights(self, state: State) -> None:
        """Load the weights and the fitted postprocessing of a state, to predict with them."""
        module = self._average.module if self._average else self.module
        load_strict(module, state.weights, file="the checkpoint")
        load_strict(self.criterion.module, state.loss, file="the checkpoint")
        self._features.verify()
        self.postprocess_states = list(state.record["postprocess"])
        self.binary = BinaryDecision.from_record(state.record.get("binary"))

    def lrs(self) -> dict[str, float]:
        """Return the learning rates of the last step, by the names of the parameter groups.

        Groups that share a name and a learning rate are one; others are numbered.
        """
        lrs: dict[str, float] = {}
        for number, group in enumerate(self._optimizer.param_groups):
            name, lr = str(group.get("name", number)), float(group["lr"])
            lrs[name if lrs.get(name, lr) == lr else f"{name}#{number}"] = lr
        return lrs

    def watch_grad_norm(self) -> None:
        """Let each step store the norm of its gradient; call it before training begins."""
        self._grad_norm = torch.full((), math.nan, device=self.device)

    @property
    def grad_norm(self) -> torch.Tensor | None:
        """Return the norm of the last step's gradient before clipping, a scalar on the device.

        None if it is not watched.
        """
        return None if self._grad_norm is None else self._grad_norm.clone()

    def _lr(self) -> float:
        """Return the learning rate of the last parameter group."""
        return float(self._optimizer.param_groups[-1]["lr"])

    def _loss_error(self, step: int, positions: Positions) -> NonFiniteError:
        """Return the error for a loss that is not finite: it names the step and the samples."""
        first = self.dataset.table.frame["path"].iat[positions[0]]
        rows = ", ".join(str(row) for row in positions[:3])
        more = ", ..." if len(positions) > 3 else ""
        epoch = step // self.schedule.steps_per_epoch + 1
        return _nonfinite_error(
            f"loss at epoch {epoch} step {step + 1} (rows {rows}{more}; first: {first})"
        )


def _nonfinite_error(subject: str) -> NonFiniteError:
    hint = "lower optimizer.lr, or set training.clip_grad_norm"
    return NonFiniteError(Problem("non-finite", f"non-finite {subject}", hint))
