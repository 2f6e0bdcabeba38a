"""One experiment, from its data to its result: the script that every rank runs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from sightx.data import dataset, preprocess
from sightx.data.dataset import PreparedDataset
from sightx.data.preprocess import ProgressCallback
from sightx.distributed.collectives import Collectives
from sightx.distributed.failures import (
    ignore_stop_signals,
    is_peer_lost_error,
    propagate_first_failure,
)
from sightx.errors import Problem, ResourceError, SightXError, one_line
from sightx.evaluation import metrics
from sightx.inference.quality import fit_limits
from sightx.inference.recipe import Recipe, read_pack_chain
from sightx.io.signals import Interrupted, StopRequest, stop_on_signals
from sightx.records import SPLITS
from sightx.records.events import Epoch, Step, ValidationBatch
from sightx.records.table import ImageTable
from sightx.registry import results
from sightx.registry.failures import is_out_of_memory, network_failure, plugin_failure
from sightx.runner.final_warnings import final_warnings
from sightx.runner.initial_weights import InitialWeights
from sightx.runner.observers import Observers
from sightx.runner.result import ResultWriter
from sightx.runner.resume import Resumption
from sightx.runner.scores import score
from sightx.runs import checkpoints
from sightx.runs.async_checkpointer import CheckpointManager, NullCheckpointManager
from sightx.runs.checkpoints import LAST
from sightx.runs.directory import Run
from sightx.runs.environment import preferred_checkpoints
from sightx.runs.scorings import record_test_scoring
from sightx.runs.view import RunView
from sightx.spec.experiment import Context, Experiment
from sightx.training.dry_run import check_batches
from sightx.training.profiling import FOLDER, profile_steps
from sightx.training.setup import build_module, check_same_data
from sightx.training.state import State, broadcast_state
from sightx.training.trainer import Trainer
from sightx.training.weights import LoadedWeights

_log = logging.getLogger("sightx")


class _Stage(NamedTuple):
    """What a run computes, for errors, and whether the micro-batch limits its memory."""

    text: str
    is_training: bool = False


class _AgreedStop(Exception):  # noqa: N818 - not an error
    """All ranks have agreed to stop after the same step, because of a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Execution:
    """One experiment on one rank. All ranks call `execute`, so every collective is in one place.

    Ranks other than 0 have nothing to write or to report: they get a `NullRun`, no initial weights
    (rank 0 broadcasts its own), and neither a resumption, observers, progress nor a profile.
    """

    experiment: Experiment
    context: Context
    run: Run
    table: ImageTable
    device: torch.device
    collectives: Collectives
    weights: InitialWeights = field(default_factory=InitialWeights)
    resumption: Resumption | None = None
    observers: Mapping[str, object] = field(default_factory=dict)
    progress: ProgressCallback | None = None
    profile: bool = False

    def __post_init__(self) -> None:
        """Prepare to record the result, and to handle signals."""
        self._is_main = self.collectives.is_main_process
        self._hooks = Observers(RunView(self.run), self._warn)
        is_recorded = self._is_main and self.resumption is None
        registry = self.context.registry
        self._recorder = ResultWriter(self.run, registry, self._hooks, enabled=is_recorded)
        self._stop = StopRequest()
        self._stage = _Stage("")
        self._epoch = 0
        self._loaded: LoadedWeights | None = None

    def execute(self) -> None:
        """Train and evaluate, and write the result."""
        failures = propagate_first_failure(self.context.registry)
        with stop_on_signals() as self._stop, self._recorder.recorded(), failures:
            # 1. The network with its first weights: errors in it are found before images are read.
            self._hooks.register(self.observers)
            state = self.resumption.state if self.resumption else None
            module = self._build_network(load_weights=state is None)
            metrics.metric_directions(self.experiment.metric, self.table.classes)
            check_batches(self.experiment, self.table)
            # 2. Every image is decoded and preprocessed before the first step.
            data = self._prepare_data()
            self.collectives.barrier()  # ranks need different times for their images
            check_same_data(self.collectives, data)
            trainer = Trainer(self.experiment, data, module, self.device, self.collectives)
            if self._hooks.has_listener("sightx_step_finished", "grad_norm"):
                trainer.watch_grad_norm()
            # 3. A resumed run is compared with the recorded one; from here on its files change.
            if self.resumption:
                self.resumption.check_data(data)
                self.resumption.record()
            self._recorder.enabled = self._is_main
            self._describe_data(data, module)
            if self._loaded:
                self._describe_weights(self._loaded, module)
            if self.collectives.broadcast_object(state is not None):
                state = broadcast_state(self.collectives, state)
                trainer.restore(state)
            # 4. Training, then the final metrics, from the best weights.
            try:
                with self._explain_errors():
                    self._train(trainer, state)
                    self._evaluate(trainer)
            except _AgreedStop as stop:
                self._recorder.set_interrupted(stop.number)

    def _warn(self, text: str) -> None:
        line = one_line(text)
        with suppress(ResourceError):  # the next checkpoint reports what is wrong with the disk
            self.run.log("console.log", line + "\n")
        _log.warning("%s", line)

    def _build_network(self, *, load_weights: bool) -> nn.Module:
        experiment, classes = self.experiment, len(self.table.classes)
        shape = preprocess.output_shape(experiment.preprocess, self.table.shape)
        module = build_module(experiment.model, experiment.loss, classes, shape, experiment.seed)
        if load_weights:
            self._loaded = self.weights.load(experiment, module, classes, shape)
            self.weights = replace(self.weights, tables=None)  # its memory is needed for images
        return module

    def _prepare_data(self) -> PreparedDataset:
        # The run directory may be missing on the host of another rank.
        exists = self.run.directory.is_dir()
        folder = self.run.directory if exists else Path(tempfile.gettempdir())
        with self._hooks.watched_preparation() as watch:
            data = dataset.prepare_dataset(
                self.experiment,
                self.table,
                device=self.device,
                progress=partial(self._on_progress, watch),
                bad_images_csv=folder / "bad-images.csv",
            )
        _log.info("%s", data.placement)
        return data

    def _on_progress(self, watch: ProgressCallback, done: int, total: int) -> None:
        watch(done, total)
        if self.progress:
            self.progress(done, total)
        if self._stop.number:  # the ranks cannot agree here: this one ends the run
            raise Interrupted(self._stop.number)

    def _describe_data(self, data: PreparedDataset, module: nn.Module) -> None:
        """Write split.csv and data.json."""
        self.run.write_split(data.table.frame, data.hashes, data.table.columns)
        weights = list(module.parameters())
        facts = {
            "id": data.id,
            "source": Path(data.table.source).name,
            "classes": data.table.classes,
            "ordered": data.table.ordered,
            "samples": len(data.table),
            "counts": {split: data.counts(split) for split in SPLITS},
            "splits": {split: data.split_id(split) for split in SPLITS},
            "skipped": data.table.skipped,
            "unused": data.table.survey.lines(),
            "packed": data.packed,
            "cache": data.placement._asdict() if data.placement else {},
            "weights": sum(weight.numel() for weight in weights),
            "trainable": sum(weight.numel() for weight in weights if weight.requires_grad),
        }
        self.run.write_json("data.json", facts)

    def _describe_weights(self, loaded: LoadedWeights, module: nn.Module) -> None:
        """Write weights.json, and say which tensors were loaded, and which are new."""
        self.run.write_json("weights.json", loaded.to_json())
        self.run.log("console.log", one_line(str(loaded)) + "\n")
        _log.info("%s", one_line(str(loaded)))
        model = self.experiment.model
        for warning in self.weights.warnings(loaded, model, module, self.table.classes):
            self._warn(warning)

    def _train(self, trainer: Trainer, state: State | None) -> None:
        """Train to the last epoch or until the stopping rule has a reason; save checkpoints."""
        with self._checkpoint_manager(trainer) as manager:
            if state:  # the run may have stopped before its names moved to this checkpoint
                is_epoch_end = state.is_between_epochs and trainer.history.epochs
                manager.save_current(self._checkpoint_names(trainer) if is_epoch_end else {LAST})
            self._hooks.call("sightx_run_started", experiment=self.experiment)
            self._warn_of_several_processes(trainer.module)
            self.collectives.barrier()  # rank 0 has written files and called observers
            events = trainer.events()
            if self.profile:
                events = profile_steps(events, self.run.directory / FOLDER)
            step = state.record["step"] if state else 0
            self._stage = _Stage(f"at step {step + 1}", is_training=True)
            for event in events:
                if isinstance(event, Step):
                    self._finish_step(trainer, manager, event)
                elif isinstance(event, ValidationBatch):
                    self._hooks.call("sightx_validation_batch_finished", batch=event)
                elif isinstance(event, Epoch):
                    self._finish_epoch(trainer, manager, event)
                self._stop_if_asked(manager)
        if reason := trainer.stop_reason:
            self._recorder.result["reason"] = reason
        self._recorder.result["status"] = "stopped" if reason else "finished"
        self.collectives.barrier()  # rank 0 has saved the last checkpoint

    def _checkpoint_manager(self, trainer: Trainer) -> CheckpointManager:
        if not self._is_main:
            return NullCheckpointManager()
        registry = self.context.registry
        data, quality = trainer.dataset, self.experiment.quality
        pack_chain = read_pack_chain(data.table, registry)
        threads = self.experiment.execution.threads
        limits = fit_limits(quality, data.rows, data.splits["train"], threads) if quality else {}

        def recipe() -> Mapping[str, Any]:
            return Recipe.of(
                self.experiment,
                registry,
                table=data.table,
                pack_chain=pack_chain,
                shape=data.rows.shape,
                statistics=trainer.statistics,
                postprocess_states=trainer.postprocess_states,
                binary=trainer.binary,
                quality_limits=limits,
            ).tables()

        def on_saved(checkpoint: str) -> None:
            self._hooks.call("sightx_checkpoint_written", checkpoint=checkpoint)

        folder = self.run.directory / "checkpoints"
        return CheckpointManager(folder, self.experiment.execution, trainer.state, recipe, on_saved)

    def _checkpoint_names(self, trainer: Trainer) -> set[str]:
        """Return the names of the state after an epoch: those of the policies, and "last"."""
        policies = self.experiment.checkpoint
        return {LAST}.union(
            *(results.checkpoint_names(policy, trainer.history) for policy in policies)
        )

    def _finish_step(self, trainer: Trainer, manager: CheckpointManager, step: Step) -> None:
        is_last = step.step == step.epoch * step.steps_per_epoch
        self._stage = (
            _Stage(f"validating after step {step.step}")
            if is_last
            else _Stage(f"at step {step.step + 1}", is_training=True)
        )
        if step.epoch != self._epoch:
            self._epoch = step.epoch
            self._hooks.call("sightx_epoch_started", epoch=step.epoch)
        if self._hooks.has_listener("sightx_step_finished"):
            lrs = trainer.lrs() if self._hooks.has_listener("sightx_step_finished", "lrs") else {}
            norm = trainer.grad_norm
            self._hooks.call("sightx_step_finished", step=step, lrs=lrs, grad_norm=norm)
        manager.step_finished(step.step)

    def _finish_epoch(self, trainer: Trainer, manager: CheckpointManager, epoch: Epoch) -> None:
        self._stage = _Stage(f"at step {epoch.step + 1}", is_training=True)
        names = self._checkpoint_names(trainer)
        preferred = preferred_checkpoints(self.experiment)[0]
        if preferred != LAST:  # the policy may follow another metric than the monitored one
            epoch = replace(epoch, is_best=preferred in names)
        row = {
            "epoch": epoch.number,
            "step": epoch.step,
            "lr": epoch.lr,
            "seconds": epoch.seconds,
            "images_per_second": round(epoch.images_per_second, 1),
            "data_wait": round(epoch.data_wait_fraction, 4),
        }
        self.run.write_epoch({**row, **epoch.metrics})
        if (predictions := trainer.validation) is not None:
            predictions = predictions.read_only()
            self._hooks.call("sightx_validation_finished", epoch=epoch, predictions=predictions)
        self._hooks.call("sightx_epoch_finished", epoch=epoch)
        manager.save_current(names)

    def _evaluate(self, trainer: Trainer) -> None:
        """Score validation and test with the preferred checkpoint."""
        name, folder, saved = LAST, Path(), None
        if self._is_main:
            name = self.run.preferred_checkpoint
            folder = self.run.checkpoint(name)
            saved = checkpoints.load(folder)
        state = broadcast_state(self.collectives, saved)
        trainer.load_weights(state)
        result = self._recorder.result
        if self._is_main:
            table, counts = trainer.dataset.table, trainer.dataset.counts("validation")
            arguments = (self.experiment, self.context, table, counts, trainer.history, name)
            if warnings := final_warnings(*arguments):
                result["warnings"] = warnings
        result |= {"checkpoint": name, "epoch": len(state.record["history"])}
        result |= {"weights": checkpoints.weights_hash(folder)}
        result |= {"directions": dict(trainer.history.directions)}
        splits = ["validation", *(["test"] if self.experiment.evaluation.test == "end" else [])]
        for split in splits:
            if not len(trainer.dataset.splits[split]):
                continue
            self._stage = _Stage(f"evaluating {split}")
            scored = trainer.predict(split, self._stop_if_asked)
            single = trainer.predict_without_tta(split, self._stop_if_asked)
            if scored:  # on rank 0
                self.run.write_predictions(split, scored[0], folder.name)
                if split == "test":
                    rows, samples = trainer.dataset.split_id(split), len(scored[0])
                    record_test_scoring(self.run, "run", folder.name, rows, samples)
                scores = score(scored, split, self.experiment, trainer.binary, self.run, single)
                scores.add_to(result, split)

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        """Explain what a network raises, and at which stage memory ran out."""
        try:
            yield
        except Exception as error:
            failure = self._failure(error)
            if failure is None:
                raise
            raise failure from error

    def _failure(self, error: Exception) -> SightXError | None:
        if isinstance(error, SightXError) or is_peer_lost_error(error):
            return None
        if is_out_of_memory(error):
            return self._memory_error()
        if plugin_failure(error, self.context.registry):
            return None
        return network_failure(error, self.experiment.model.name)

    def _memory_error(self) -> ResourceError:
        training = self.experiment.training
        key, size = "batch_size", training.batch_size
        if self._stage.is_training:
            key, size = "micro_batch_size", training.micro_batch_size or size
        hint = "smaller images need less"
        if size > 1:
            hint = f"training.{key} = {size // 2} or {hint}"
        message = f"out of memory {self._stage.text}, batch {size}"
        return ResourceError(Problem("out-of-memory", message, hint))

    def _stop_if_asked(self, manager: CheckpointManager | None = None) -> None:
        """Raise _AgreedStop on all ranks if a signal has reached one; save a checkpoint before."""
        if number := self.collectives.all_reduce_max(self._stop.number):
            if manager:
                manager.save_current({LAST})
                manager.wait()
            if self.collectives.world_size > 1:
                ignore_stop_signals()
            raise _AgreedStop(number)

    def _warn_of_several_processes(self, module: nn.Module) -> None:
        """Warn of what several processes do differently from one."""
        if self.collectives.world_size == 1 or not self._is_main:
            return
        if any(hasattr(part, "running_mean") for part in module.modules()):
            self._warn(
                "batch normalisation: running statistics are those of rank 0's micro-batches"
            )
        if self.experiment.execution.compile:
            self._warn("execution.compile: with several processes the network is not compiled")
        if self.experiment.execution.cuda_graph:
            self._warn("execution.cuda_graph: with several processes no CUDA graph is replayed")
