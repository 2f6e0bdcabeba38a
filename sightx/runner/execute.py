"""One experiment carried through, from its data to its figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightx.data import dataset, preprocess
from sightx.data.dataset import PreparedDataset
from sightx.data.preparation import CacheConfig
from sightx.distributed.collectives import SingleProcess
from sightx.distributed.failures import propagate_first_failure
from sightx.errors import Problem, ResourceError, one_line
from sightx.evaluation import metrics
from sightx.io.signals import Interrupted, StopRequest
from sightx.records import SPLITS
from sightx.records.events import Epoch, Event, Step
from sightx.records.table import ImageTable
from sightx.runner.following import notes, refuse_others, scored
from sightx.runner.observers import Observers
from sightx.runner.result import ResultWriter
from sightx.runner.saving import CheckpointSaver
from sightx.runs import checkpoints
from sightx.runs.async_checkpointer import AsyncCheckpointer
from sightx.runs.directory import Run
from sightx.spec.experiment import Experiment, Training
from sightx.training.profiling import FOLDER, profile_steps
from sightx.training.setup import build_module
from sightx.training.state import State, broadcast_state
from sightx.training.trainer import Trainer
from sightx.training.weights import initialise

_log = logging.getLogger("sightx")


@dataclass(frozen=True)
class Start:
    """Say what an execution begins with.

    `weights` is where a fresh network's come from; with `saved` it goes on from there. `judge`
    hears the trainer before it has taken a state and before the run is changed, and may raise. With
    `profile`, some steps are traced.
    """

    table: ImageTable
    weights: str
    saved: State | None = None
    judge: Callable[[Trainer], None] | None = None
    profile: bool = False


class Execution:
    """Carry one experiment through: data, training, evaluation."""

    def __init__(
        self,
        experiment: Experiment,
        made: Run,
        device: torch.device,
        watching: Mapping[str, Any],
        collectives: SingleProcess,
        *,
        begun: bool = True,
    ) -> None:
        """Take a run that was made for it, or one that has not `begun` to go on."""
        self.experiment, self.run, self.device, self._collectives = (
            experiment,
            made,
            device,
            collectives,
        )
        self._watching = {item.name: item for item in experiment.observer} | dict(watching)
        self.observers = Observers({}, self._warn)
        self._registry = experiment.context.registry
        self._outcome = ResultWriter(made, self._registry, self._told, begun=begun)
        self.result = self._outcome.result

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write the result, whatever happens."""
        with self._outcome.recorded(), propagate_first_failure(self._registry):
            yield

    def _told(self, result: Mapping[str, Any]) -> None:
        self.observers.tell("sightx_run_finished", run=self.run, result=result)

    def go(
        self, start: Start, progress: preprocess.ProgressCallback | None, asked: StopRequest
    ) -> None:
        """Do everything between the directory and its result."""
        # 1. The network, with fresh or given weights: what is wrong with it is said at once.
        self.observers = Observers(self._built(), self._warn)
        module = self._module(start)
        # 2. Every image is read and prepared before the first step.
        data = self._prepare(start.table, _until(asked, progress))
        self._collectives.barrier()
        trainer = Trainer(self.experiment, data, module, self.device, self._collectives)
        refuse_others(self._collectives, data)
        if start.judge:
            start.judge(trainer)
        self._outcome.begun = True
        self._describe(data, module)
        if self._collectives.broadcast_object(start.saved is not None):
            trainer.restore(broadcast_state(self._collectives, start.saved))
        # 3. The loop, until it ends or somebody asks it to.
        with AsyncCheckpointer(self.run.directory / "checkpoints") as writer:
            saving = CheckpointSaver(self.run, trainer, writer, self._written)
            if start.saved:  # its names may not have been moved before the run stopped
                ended = start.saved.is_between_epochs and trainer.history.epochs
                saving.save(saving.names() if ended else {"last"})
            self.observers.tell("sightx_run_started", experiment=self.experiment, run=self.run)
            for note in notes(self.experiment, module, self._collectives):
                self._warn(note)
            self._collectives.barrier()
            events = trainer.events()
            if start.profile:
                events = profile_steps(events, self.run.directory / FOLDER)
            step = start.saved.record["step"] if start.saved else 0
            self._train(_expected(events, step, self.experiment.training), saving, asked)
            if reason := trainer.stop_reason:
                self.result["reason"] = reason
            self.result["status"] = "stopped" if reason else "finished"
        # 4. The figures that count, from the best weights.
        self._collectives.barrier()
        self._evaluate(trainer, asked)

    def _built(self) -> dict[str, object]:
        """Return what observers build; one that fails to is dropped with a warning."""
        built = {}
        for name, observer in self._watching.items():
            try:
                built[name] = observer.build(self.run)
            except Exception as error:
                self._warn(f"observer {name} is dropped: {type(error).__name__}: {error}")
        return built

    def _warn(self, text: str) -> None:
        line = one_line(text)
        with suppress(ResourceError):  # the next save says that the disk refuses
            self.run.log("console.log", line + "\n")
        _log.warning("%s", line)

    def _prepare(
        self, opened: ImageTable, progress: preprocess.ProgressCallback
    ) -> PreparedDataset:
        return dataset.prepare_dataset(
            opened,
            self.experiment.dataset,
            self.experiment.preprocess,
            storage=CacheConfig.of(self.experiment, self.device),
            threads=self.experiment.execution.threads,
            progress=progress,
            faults=self.run.directory / "bad-images.csv",
        )

    def _module(self, start: Start) -> nn.Module:
        model, loss = self.experiment.model, self.experiment.loss
        shape = preprocess.output_shape(self.experiment.preprocess, start.table.shape)
        module = build_module(model, loss, len(start.table.classes), shape, self.experiment.seed)
        if start.saved is None:
            initialise(model, module, start.weights)
        return module

    def _describe(self, data: PreparedDataset, module: nn.Module) -> None:
        """Record what the data are and how large the network is."""
        self.run.write_split(data.table.frame, data.digests)
        weights = list(module.parameters())
        self.run.write_json(
            "data.json",
            {
                "id": data.id,
                "source": Path(data.table.source).name,
                "classes": data.table.classes,
                "ordered": data.table.ordered,
                "samples": len(data.table),
                "counts": {side: data.counts(side) for side in SPLITS},
                "skipped": data.table.skipped,
                "packed": data.packed,
                "store": data.residence._asdict() if data.residence else {},
                "weights": sum(weight.numel() for weight in weights),
                "trainable": sum(w.numel() for w in weights if w.requires_grad),
            },
        )

    def _train(self, events: Iterator[Event], saving: CheckpointSaver, asked: StopRequest) -> None:
        steps, epoch = self.observers.listens("sightx_step_finished"), 0
        for event in events:
            if isinstance(event, Step):
                if event.epoch != epoch:
                    epoch = event.epoch
                    self.observers.tell("sightx_epoch_started", run=self.run, epoch=epoch)
                if steps:
                    self.observers.tell("sightx_step_finished", run=self.run, step=event)
                saving.step(event.step)
            elif isinstance(event, Epoch):
                self._epoch(saving, event)
            if number := self._collectives.all_reduce_max(asked.number):
                saving.save({"last"})
                saving.wait()
                raise Interrupted(number)

    def _epoch(self, saving: CheckpointSaver, epoch: Epoch) -> None:
        names = saving.names()
        if any(policy.name == "best" for policy in self.experiment.checkpoint):
            epoch = replace(epoch, is_best="best" in names)  # it may follow another figure
        row = {
            "epoch": epoch.number,
            "step": epoch.step,
            "lr": epoch.lr,
            "seconds": round(epoch.seconds, 3),
            "images_per_second": round(epoch.images_per_second, 1),
            "data_wait": round(epoch.data_wait_fraction, 4),
        }
        self.run.write_epoch({**row, **epoch.metrics})
        self.observers.tell("sightx_epoch_finished", run=self.run, epoch=epoch)
        saving.save(names)

    def _written(self, checkpoint: str) -> None:
        self.observers.tell("sightx_checkpoint_written", run=self.run, checkpoint=checkpoint)

    def _evaluate(self, trainer: Trainer, asked: StopRequest) -> None:
        """Score validation and test with the best checkpoint, or with the last without one."""
        name = "best" if "best" in self.run.checkpoints else "last"
        saved = checkpoints.load(self.run.checkpoint(name))
        trainer.load_weights(broadcast_state(self._collectives, saved))
        self.result |= {"checkpoint": name, "epoch": len(saved.record["history"])}
        for side in scored(self.experiment, trainer.dataset):
            with _memory(f"evaluating {side}", "batch_size", self.experiment.training.batch_size):
                predictions, loss = trainer.predict(side, self._obeying(asked))
            self.run.write_predictions(side, predictions)
            found = metrics.compute_metrics(predictions, self.experiment.metric, side)
            self.result[side] = {f"{side}/loss": loss, **found}

    def _obeying(self, asked: StopRequest) -> Callable[[], None]:
        """Return what ends an evaluation at a signal, once all processes have heard it."""

        def obey() -> None:
            if number := self._collectives.all_reduce_max(asked.number):
                raise Interrupted(number)

        return obey


def _expected(events: Iterator[Event], step: int, training: Training) -> Iterator[Event]:
    """Yield what training does; say in which step or validation the memory was too small."""
    size, ended = training.batch_size, False
    while True:
        at = (f"at step {step + 1}", "micro_batch_size", training.micro_batch_size or size)
        with _memory(*(at if not ended else (f"validating after step {step}", "batch_size", size))):
            event = next(events, None)
        if event is None:
            return
        if isinstance(event, Step):
            step, ended = event.step, event.step == event.epoch * event.steps_per_epoch
        ended = ended and not isinstance(event, Epoch)
        yield event


@contextmanager
def _memory(where: str, key: str, size: int) -> Iterator[None]:
    """Say where and with how many samples at once the memory was too small."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        message = f"out of memory {where}, batch {size}"
        less = "smaller images need less"
        hint = f"training.{key} = {size // 2} or {less}" if size > 1 else less
        raise ResourceError(Problem("out-of-memory", message, hint)) from error


def _until(
    asked: StopRequest, progress: preprocess.ProgressCallback | None
) -> preprocess.ProgressCallback:
    """Return a report of progress that a signal ends."""

    def report(done: int, of: int) -> None:
        if progress:
            progress(done, of)
        if asked.number:
            raise Interrupted(asked.number)

    return report
